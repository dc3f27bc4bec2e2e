"""The `hf-vits` command: files, output, exit codes and errors about bad input."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_images
from timm.models import save_for_hf
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from hf_vits import VitsImageProcessor, conversion
from hf_vits.cli import COMMANDS
from hf_vits.demo import original_checkpoint
from hf_vits.hub import save_for_hub
from hf_vits.testing.hub import LoopbackHub
from tests.support.commands import command, error_of, result_of
from tests.support.hub import tiny_model, tiny_processor
from tests.support.training import tiny_recipe


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("original") / "cct.pth"
    torch.save(original_checkpoint(), path)
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    """A saved classifier of cats, dogs and eels."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    return save_for_hub(tiny_model("cct"), path, tiny_processor())


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three folders of three noisy images each, named as the classifier's classes."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog", "eel"):
        for index in range(3):
            path = tmp_path / "photos" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


# The command itself


def test_help_needs_neither_torch_nor_transformers():
    script = (
        "import sys\nfrom hf_vits.cli import main\n"
        "for arguments in (['--help'], *([name, '--help'] for name in sys.argv[1:])):\n"
        "    try:\n        main(arguments)\n    except SystemExit as left:\n        assert left.code == 0\n"
        "assert not {'torch', 'transformers', 'rich'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script, *COMMANDS], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert all(f"usage: hf-vits {name}" in result.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convrt"], "unknown command 'convrt', did you mean 'convert'?"),  # codespell:ignore convrt
        ([], "required: COMMAND"),
        (["predict", "model"], "required: FILE_OR_FOLDER"),
        (["predict", "model", "image", "--top-k", "0"], "must be at least 1, got 0"),
        (["list", "deti"], "unknown system 'deti', did you mean 'deit'?"),
        (["info", "cct/cct_7_3x1_23"], "did you mean 'cct_7_3x1_32'?"),
        (["info", "./nowhere"], "there is no folder ./nowhere"),
        (["push", "nowhere", "user/name"], "there is no folder nowhere"),
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["train", "nowhere.yaml", "--check", "train.seed=1"], "No such file or directory: 'nowhere.yaml'"),
        (["train", "nowhere.yaml", "train.seed=1", "--chek"], "unrecognized arguments: --chek"),
    ],
)
def test_wrong_usage_and_names_are_told_in_one_line(arguments, message):
    assert message in error_of(*arguments)


def test_a_repository_that_is_not_there_is_named(tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path):
        assert "user/some-model" in error_of("info", "user/some-model", code=1)


def test_debug_shows_where():
    with pytest.raises(ValueError, match="unknown system"):
        command("list", "deti", "--debug")


# list and info


def test_list_names_every_system_and_counts_its_variants():
    systems = {row["system"]: row["variants"] for row in result_of("list")["systems"]}
    assert systems == {name: len(conversion.variants(name)) for name in conversion.SYSTEMS}
    chosen = result_of("list", "--task", "video-classification", "--licence", "apache-2.0")["systems"]
    assert [row["system"] for row in chosen] == ["vatt", "vivit"]
    assert "no system has the task 'dancing'" in error_of("list", "--task", "dancing")


def test_list_chooses_variants_by_size_and_input():
    found = result_of("list", "--size", "5M..6M", "--input", "image", "--image-size", "224")["variants"]
    names = {row["variant"]: row["parameters"] for row in found}
    assert names["deit_tiny_patch16_224"] == 5_717_416
    assert all(5e6 <= parameters <= 6e6 for parameters in names.values())
    sounds = result_of("list", "--task", "audio-classification", "--input", "audio")["variants"]
    assert {"audiomer", "septr"} <= {row["system"] for row in sounds}
    assert [row["variant"] for row in result_of("list", "cmt", "--size", "..10M")["variants"]] == ["cmt_ti"]
    assert "must be FROM..TO" in error_of("list", "--size", "5")
    _, out, _ = command("list", "--size", "1B..")
    assert "parameters" in out


def test_list_prints_a_table():
    _, out, _ = command("list")
    assert all(name in out for name in conversion.SYSTEMS)


def test_listed_parameters_are_those_the_original_reports():
    rows = {row["variant"]: row for row in result_of("list", "cct")["variants"]}
    assert rows.keys() == conversion.variants("cct").keys()
    # What the models that the original builds have.
    assert rows["cct_7_3x1_32"] == {
        "variant": "cct_7_3x1_32",
        "parameters": 3_760_139,
        "input": "3x32x32",
        "classes": 10,
    }
    assert rows["cct_14_7x2_384"]["parameters"] == 22_513_193
    assert rows["text_cct_2"]["input"] == "64 words"


def test_info_counts_the_published_cost_of_a_variant():
    result = result_of("info", "deit/deit_tiny_patch16_224")
    assert result["parameters"] == 5_717_416  # facebookresearch/deit, README: 5M
    assert result["flops"] / 2e9 == pytest.approx(1.26, abs=0.01)  # Touvron et al., DeiT III, table 1: 1.3 G
    assert result["processor"]["crop_size"] == {"height": 224, "width": 224}
    assert len(result["labels"]) == 1000
    _, out, _ = command("info", "deit/deit_tiny_patch16_224")
    assert "5,717,416" in out


def test_info_of_a_saved_model(classifier):
    result = result_of("info", classifier)
    assert result["labels"] == ["cat", "dog", "eel"]
    assert result["parameters"] == tiny_model("cct").num_parameters()
    assert result["processor"]["size"] == {"height": 32, "width": 32}
    assert result["config"]["hidden_size"] == 16


# convert


def test_convert_writes_a_model_that_transformers_loads(checkpoint, tmp_path):
    out = tmp_path / "out"
    result = result_of("convert", "cct", "cct_2_3x2_32", checkpoint, out)
    model = AutoModelForImageClassification.from_pretrained(out)
    expected = conversion.convert("cct", "cct_2_3x2_32", original_checkpoint())
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in model.state_dict().items())
    assert AutoImageProcessor.from_pretrained(out).crop_size["height"] == 32
    assert "`cct_2_3x2_32`" in (out / "README.md").read_text()
    assert {"modeling_cct.py", "model.safetensors", "preprocessor_config.json"} <= set(result["files"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_convert_sets_configuration_fields(checkpoint, tmp_path):
    fields = ("image_size=48", "drop_path_rate=0.2")
    result_of("convert", "cct", "cct_2_3x2_32", checkpoint, tmp_path / "out", "--set", *fields)
    config = AutoModelForImageClassification.from_pretrained(tmp_path / "out").config
    assert (config.image_size, config.drop_path_rate) == (48, 0.2)


def test_convert_takes_the_number_of_layers_from_the_file(checkpoint, tmp_path):
    result_of("convert", "cct", "cct_4_3x2_32", checkpoint, tmp_path / "out")
    assert AutoModelForImageClassification.from_pretrained(tmp_path / "out").config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("variant", "setting", "message"),
    [
        ("cct_2_3x2_23", [], "did you mean 'cct_2_3x2_32'?"),
        ("cct_2_3x2_32", ["hiden_size=64"], "did you mean 'hidden_size'?"),
        ("cct_2_3x2_32", ["hidden_size=many"], "hidden_size"),
        ("cct_2_3x2_32", ["num_attention_heads=5"], "hidden_size must be a multiple of num_attention_heads"),
        ("cct_2_3x2_32", ["drop_path_rate=1.5"], "drop_path_rate must lie in [0, 1), got drop_path_rate=1.5"),
        ("cct_2_3x2_32", ["image_size"], "--set takes KEY=VALUE, got 'image_size'"),
        ("cct_2_3x2_32", ["image_size=[3"], "is not valid YAML"),
        ("cct_7_3x1_32", [], "it has hidden_size=128, the variant hidden_size=256"),
    ],
)
def test_convert_refuses_unknown_names_and_values(checkpoint, tmp_path, variant, setting, message):
    options = ["--set", *setting] if setting else []
    assert message in error_of("convert", "cct", variant, checkpoint, tmp_path / "out", *options)
    assert not list(tmp_path.iterdir())


def renamed(tensors):
    return {key.replace("linear1", "fc1"): value for key, value in tensors.items()}


def reshaped(tensors):
    return tensors | {"classifier.norm.weight": torch.ones(64)}


@pytest.mark.parametrize(
    ("spoil", "system", "variant", "message"),
    [
        (renamed, "cct", "cct_2_3x2_32", "4 unexpected: model.layers.0.fc1.weight"),
        (reshaped, "cct", "cct_2_3x2_32", "it has hidden_size=64, the variant hidden_size=128"),
        (dict, "deit", "deit_tiny_patch16_224", "does not fit deit deit_tiny_patch16_224"),
        (dict, "vit", "ViT-Ti_16", "does not fit vit ViT-Ti_16"),
        (lambda tensors: {"epoch": 3}, "cct", "cct_2_3x2_32", "holds no tensors"),
        (lambda tensors: [1, 2], "cct", "cct_2_3x2_32", "expected a dict of tensors"),
    ],
)
def test_convert_refuses_checkpoints_that_do_not_fit(spoil, system, variant, message, tmp_path):
    torch.save(spoil(original_checkpoint()), tmp_path / "spoilt.pth")
    assert message in error_of("convert", system, variant, tmp_path / "spoilt.pth", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["spoilt.pth"]


class Touch:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_convert_runs_no_code_of_a_pickle(write, tmp_path):
    write({"model": original_checkpoint() | {"extra": Touch(tmp_path / "ran")}}, tmp_path / "evil.pth")
    message = error_of("convert", "cct", "cct_2_3x2_32", tmp_path / "evil.pth", tmp_path / "out")
    assert "would run code" in message
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pth"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_checkpoint_leaves_nothing_behind(checkpoint, data, tmp_path_factory):
    content = checkpoint.read_bytes()
    folder = tmp_path_factory.mktemp("truncated")
    (folder / "part.pth").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    error_of("convert", "cct", "cct_2_3x2_32", folder / "part.pth", folder / "out")
    assert [path.name for path in folder.iterdir()] == ["part.pth"]


def test_convert_overwrites_a_saved_model_only_if_asked_and_nothing_else(checkpoint, tmp_path):
    out = tmp_path / "out"
    arguments = ("convert", "cct", "cct_2_3x2_32", checkpoint, out)
    result_of(*arguments)
    (out / "notes.txt").write_text("kept?")
    assert "pass --overwrite" in error_of(*arguments)
    torch.save(renamed(original_checkpoint()), tmp_path / "spoilt.pth")
    error_of("convert", "cct", "cct_2_3x2_32", tmp_path / "spoilt.pth", out, "--overwrite")
    assert (out / "notes.txt").exists()  # a failure leaves what was there
    result_of(*arguments, "--overwrite")
    assert not (out / "notes.txt").exists()
    (out / "config.json").unlink()
    assert "holds no saved model" in error_of(*arguments, "--overwrite")


def test_transformers_models_are_converted_both_ways(tmp_path):
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    theirs = ViTForImageClassification(ViTConfig(**size, image_size=32, patch_size=8, num_labels=3)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "theirs")
    first = result_of("convert", "vit", "transformers", tmp_path / "theirs", tmp_path / "ours")
    again = result_of("convert", "vit", "hf_vits", tmp_path / "ours", tmp_path / "again", "--to-transformers")
    assert first["class"] == "hf_vits.ViTForImageClassification"
    assert again["class"] == "transformers.ViTForImageClassification"
    back = ViTForImageClassification.from_pretrained(tmp_path / "again")
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in back.state_dict().items())
    for folder in ("ours", "again"):
        processor = AutoImageProcessor.from_pretrained(tmp_path / folder)
        assert (type(processor), processor.size["height"]) == (ViTImageProcessor, 32)
    message = error_of("convert", "vit", "hf_vits", tmp_path / "ours", tmp_path / "more")
    assert "--to-transformers converts it" in message
    message = error_of("convert", "vit", "transformers", tmp_path / "ours", tmp_path / "more")
    assert "holds a 'hf_vits_vit' of hf_vits" in message


def test_convert_needs_no_variant_and_reads_folders_of_timm(tmp_path):
    options = {"embed_dim": 16, "depth": 1, "num_heads": 4, "img_size": 32, "num_classes": 3}
    theirs = timm.create_model("deit_tiny_patch16_224", **options).eval()
    torch.save(theirs.state_dict(), tmp_path / "deit.pth")
    arguments = ("convert", "deit", "auto", tmp_path / "deit.pth", tmp_path / "ours", "--set", "num_attention_heads=4")
    assert result_of(*arguments)["class"] == "hf_vits.DeiTForImageClassification"
    save_for_hf(theirs, tmp_path / "theirs", model_args=options)
    result_of("convert", tmp_path / "theirs", tmp_path / "again")
    pixel_values = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for name in ("ours", "again"):
            ours = AutoModelForImageClassification.from_pretrained(tmp_path / name)
            torch.testing.assert_close(ours(pixel_values).logits, theirs(pixel_values), atol=1e-5, rtol=1e-4)
    assert AutoImageProcessor.from_pretrained(tmp_path / "again").size["shortest_edge"] == 35  # 32 / 0.9
    assert "takes [SYSTEM [VARIANT]] CHECKPOINT OUT, got 1 words" in error_of("convert", tmp_path / "ours")


def test_what_goes_to_transformers_needs_nothing_of_ours(tmp_path):
    save_for_hub(tiny_model("deit"), tmp_path / "ours", tiny_processor())
    result = result_of("convert", "deit", "hf_vits", tmp_path / "ours", tmp_path / "theirs", "--to-transformers")
    assert not [name for name in result["files"] if name.endswith(".py")]
    processor = AutoImageProcessor.from_pretrained(tmp_path / "theirs")
    assert (type(processor), processor.size["height"]) == (ViTImageProcessor, 32)
    assert "import hf_vits" not in (tmp_path / "theirs" / "README.md").read_text()
    assert "note" not in result


def test_the_crop_of_transformers_is_off_by_one_pixel_and_the_command_says_so(tmp_path):
    """In a photograph resized to 24 x 39, the centre crop of 16 starts at 4 and 11.5."""
    photograph = Image.fromarray(load_sample_images().images[0]).resize((390, 240))
    ours = VitsImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 16, "width": 16}, resample=3)
    save_for_hub(tiny_model("deit"), tmp_path / "ours", ours)
    result = result_of("convert", "deit", "hf_vits", tmp_path / "ours", tmp_path / "theirs", "--to-transformers")
    assert "one pixel" in result["note"]
    theirs = AutoImageProcessor.from_pretrained(tmp_path / "theirs")
    whole = VitsImageProcessor(size={"shortest_edge": 24}, do_center_crop=False, resample=3)
    resized, *crops = (p(photograph, return_tensors="pt").pixel_values[0] for p in (whole, ours, theirs))
    level = 1.01 / 255 / 0.224  # transformers rounds the resized levels once more
    for crop, column in zip(crops, (12, 11), strict=True):
        torch.testing.assert_close(crop, resized[:, 4:20, column : column + 16], atol=level, rtol=0)


# evaluate and predict


def test_predict_agrees_with_the_model(classifier, photos):
    rows = result_of(
        "predict", classifier, photos / "dog", photos / "cat" / "1.png", "--top-k", "2", "--batch-size", "3"
    )
    files = [Path(row["file"]) for row in rows["predictions"]]
    assert files == [*(photos / "dog" / f"{index}.png" for index in range(3)), photos / "cat" / "1.png"]
    model, processor = tiny_model("cct"), tiny_processor()
    for row in rows["predictions"]:
        scores = model(**processor(Image.open(row["file"]), return_tensors="pt")).logits.softmax(-1)[0]
        expected = scores.topk(2)
        assert [entry["score"] for entry in row["predictions"]] == pytest.approx(expected.values.tolist(), abs=1e-5)
        labels = [model.config.id2label[index] for index in expected.indices.tolist()]
        assert [entry["label"] for entry in row["predictions"]] == labels


def test_predict_prints_a_table_and_draws(classifier, photos, tmp_path):
    code, out, _ = command("predict", classifier, photos, "--figure", tmp_path / "figures" / "predictions.png")
    assert code == 0
    assert all(str(path) in out for path in photos.rglob("*.png"))
    assert Image.open(tmp_path / "figures" / "predictions.png").width > 500


def test_unreadable_images_are_named_and_counted_and_skipped_only_if_asked(classifier, photos, tmp_path):
    whole = (photos / "cat" / "0.png").read_bytes()
    (photos / "cat" / "half.png").write_bytes(whole[: len(whole) // 2])
    (photos / "eel" / "text.png").write_text("no image")
    message = error_of("predict", classifier, photos)
    assert message.startswith("error: 2 of 11 image file(s) cannot be read")
    assert str(photos / "cat" / "half.png") in message
    assert str(photos / "eel" / "text.png") in message
    assert "--skip-unreadable" in message
    result = result_of("predict", classifier, photos, "--skip-unreadable")
    assert len(result["predictions"]) == 9
    assert {Path(row["file"]).name for row in result["unreadable"]} == {"half.png", "text.png"}
    message = error_of("evaluate", classifier, photos)
    assert "2 image file(s) cannot be read" in message
    assert result_of("evaluate", classifier, photos, "--skip-unreadable")["images"] == 9


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(["image.png", "image.jpg", "image.bmp"]))
def test_an_image_cut_anywhere_is_predicted_or_named(classifier, data, name, tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / name
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    code, _, err = command("predict", classifier, path)
    assert code == 0 or (code == 2 and f"1 of 1 image file(s) cannot be read: {path}" in err)


def test_folders_without_images_and_missing_files(classifier, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    assert "has no image files" in error_of("predict", classifier, tmp_path)
    assert "there is no file or folder" in error_of("predict", classifier, tmp_path / "gone.png")
    assert "each class needs one" in error_of("evaluate", classifier, tmp_path)
    assert "there is no folder" in error_of("evaluate", classifier, tmp_path / "gone")


def test_what_is_no_classifier_is_refused(classifier, photos, tmp_path):
    save_for_hub(tiny_model("vit", "AutoModel"), tmp_path / "body", tiny_processor())
    assert "is a ViTModel, which has no classifier" in error_of("predict", tmp_path / "body", photos)
    save_for_hub(tiny_model("cct"), tmp_path / "unprepared")
    assert "preprocessor_config.json" in error_of("predict", tmp_path / "unprepared", photos)
    assert "hf-vits convert" in error_of("predict", classifier / "model.safetensors", photos)
    assert "no config.json" in error_of("predict", photos, photos)


@pytest.mark.parametrize("kept", [("model.",), ("classifier.",)], ids=["no-classifier", "no-encoder"])
def test_weights_that_lack_tensors_are_refused(classifier, photos, tmp_path, kept):
    """With random numbers in their place, the predicted classes would be random."""
    broken = Path(shutil.copytree(classifier, tmp_path / "broken"))
    tensors = load_file(broken / "model.safetensors")
    lost = [name for name in tensors if not name.startswith(kept)]
    save_file({name: tensors[name] for name in tensors if name not in lost}, broken / "model.safetensors")
    message = rf"lack {len(lost)} tensors of a CctForImageClassification: {sorted(lost)[0]}"
    commands = [("predict", broken, photos), ("evaluate", broken, photos), ("push", broken, "user/broken")]
    if kept == ("classifier.",):
        message = r"lack \d+ tensors of a Cct"
        commands.append(("evaluate", broken, photos, "--method", "knn"))
    for arguments in commands:
        assert re.search(message, error_of(*arguments)), arguments


def test_evaluate_measures_what_the_model_does(classifier, photos, tmp_path):
    figure = tmp_path / "confusion.png"
    result = result_of("evaluate", classifier, photos, "--batch-size", "4", "--figure", figure)
    labels = ["cat", "dog", "eel"]
    predicted = {
        row["file"]: row["predictions"][0]["label"] for row in result_of("predict", classifier, photos)["predictions"]
    }
    matrix = np.zeros((3, 3), int)
    for file, label in predicted.items():
        matrix[labels.index(Path(file).parent.name), labels.index(label)] += 1
    assert result["confusion_matrix"] == matrix.tolist()
    assert result["accuracy"] == pytest.approx(matrix.trace() / 9)
    assert "top5_accuracy" not in result
    assert [row["inputs"] for row in result["classes"]] == matrix.sum(axis=1).tolist()
    assert result["images"] == 9
    assert figure.exists()
    _, out, _ = command("evaluate", classifier, photos)
    assert "confusion matrix" in out


def test_evaluate_matches_classes_by_name(classifier, photos):
    before = np.array(result_of("evaluate", classifier, photos)["confusion_matrix"])
    (photos / "cat").rename(photos / "swap")
    (photos / "eel").rename(photos / "cat")
    (photos / "swap").rename(photos / "eel")
    after = np.array(result_of("evaluate", classifier, photos)["confusion_matrix"])
    assert (after == before[[2, 1, 0]]).all()
    (photos / "dog").rename(photos / "wolf")
    assert "not among the model's: wolf" in error_of("evaluate", classifier, photos)


# train and push


def test_train_runs_a_recipe_and_evaluate_repeats_its_test(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(tiny_recipe(tmp_path / "run")))  # JSON is YAML
    result = result_of("train", recipe, "train.length=6 steps")
    assert result["steps"] == 6
    repeated = result_of("evaluate", tmp_path / "run", recipe)
    assert repeated["images"] == result["test_images"]
    assert repeated["accuracy"] == pytest.approx(result["test"]["accuracy"])
    assert repeated["loss"] == pytest.approx(result["test"]["loss"], rel=1e-4)
    assert result_of("evaluate", tmp_path / "run", "digits")["images"] == 1797
    code, out, _ = command("train", recipe, "train.length=6 steps")
    assert code == 0
    assert "top5_accuracy" in out
    assert "did you mean" in error_of("train", recipe, "train.lenght=5 steps")  # codespell:ignore lenght
    assert "another recipe" in error_of("train", recipe, "train.seed=1")


def test_push_and_use_from_the_hub(classifier, photos, tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        result = result_of("push", classifier, "user/tiny", "--private", "--token", hub.token, "--message", "First")
        assert result["repository"] == "user/tiny"
        assert hub.repository("user/tiny").private
        assert hub.repository("user/tiny").head.title == "First"
        message = error_of("push", classifier, "user/tiny", "--token", hub.token, "--revision", "gone")
        assert "no branch 'gone'" in message
        assert "token" in error_of("push", classifier, "user/tiny", "--token", "hf_wrong", code=1)
    with LoopbackHub() as hub, hub.in_process(tmp_path / "other", hub.token):
        result_of("push", classifier, "tiny")
        far = result_of("predict", "user/tiny", photos)
        assert far["predictions"] == result_of("predict", classifier, photos)["predictions"]
        assert result_of("info", "user/tiny")["labels"] == ["cat", "dog", "eel"]


def test_convert_can_push(checkpoint, tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home", hub.token):
        out = tmp_path / "out"
        result_of("convert", "cct", "cct_2_3x2_32", checkpoint, out, "--push-to-hub", "user/cct", "--private")
        repository = hub.repository("user/cct")
        assert repository.private
        assert {path.name for path in out.iterdir()} == set(repository.head.files) - {".gitattributes"}
        assert AutoModelForImageClassification.from_pretrained("user/cct").num_parameters() == 283_723
