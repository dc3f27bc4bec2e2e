"""Every script of `examples/` runs as its docstring says, and its result is what it claims."""

import contextlib
import re
import runpy
import shlex
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from hf_vits.testing.hub import LoopbackHub

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def main_of(name: str):
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]


def last_line(capsys) -> dict[str, str]:
    """The `key=value` pairs of the last line that a script printed."""
    return dict(pair.split("=", 1) for pair in capsys.readouterr().out.splitlines()[-1].split()[1:])


@pytest.fixture(scope="module")
def dino(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """What `dino_own_folder.py` wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("dino")
    with contextlib.redirect_stdout(open(folder / "printed", "w")) as printed, printed:
        main_of("dino_own_folder")(["--output", str(folder / "out")])
    line = (folder / "printed").read_text().splitlines()[-1]
    return folder / "out", dict(pair.split("=", 1) for pair in line.split()[1:])


def test_the_readme_lists_every_example():
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in SCRIPTS] == sorted(re.findall(r"\]\((\w+\.py)\)", readme))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_docstring_shows_how_to_run_it(path):
    (command,) = re.findall(r"^    python (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert shlex.split(command)[0] == f"examples/{path.name}"


def test_trainer_learns_and_goes_on_from_what_it_saved(tmp_path, capsys):
    main = main_of("trainer_without_recipe")
    main(["--output", str(tmp_path / "first"), "--epochs", "3"])
    first = last_line(capsys)
    assert float(first["accuracy"]) > 0.5  # chance: 0.1
    main(["--output", str(tmp_path / "second"), "--epochs", "1", "--model", first["model"]])
    second = last_line(capsys)
    assert float(second["accuracy"]) > float(first["accuracy"])
    assert AutoConfig.from_pretrained(second["model"]).model_type == "hf_vits_cct"


def test_pytorch_loop_learns(tmp_path, capsys):
    main_of("pytorch_loop")(["--output", str(tmp_path), "--epochs", "3"])
    assert float(last_line(capsys)["accuracy"]) > 0.7
    assert {path.name for path in tmp_path.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


def test_dino_learns_without_labels(dino):
    folder, printed = dino
    untrained, trained = map(float, printed["knn"].split("->"))
    assert trained > untrained + 0.1
    assert AutoModel.from_pretrained(folder / "backbone").config.model_type == "hf_vits_deit"
    assert min(Image.open(folder / "attention.png").size) > 300


def test_dino_reads_a_folder_of_own_images(tmp_path, capsys):
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(30):
            image = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
            image.save(tmp_path / "photos" / name / f"{index}.jpg")
    sizes = ["--image-size", "32", "--patch-size", "8"]
    main_of("dino_own_folder")([str(tmp_path / "photos"), "--output", str(tmp_path / "out"), "--steps", "2", *sizes])
    assert last_line(capsys)["output"] == str(tmp_path / "out")
    config = AutoConfig.from_pretrained(tmp_path / "out" / "backbone")
    assert (config.image_size, config.patch_size) == (32, 8)


def test_attention_is_drawn_and_counted(dino, tmp_path, capsys):
    image, picture = tmp_path / "digit.png", tmp_path / "attention.png"
    Image.fromarray((load_digits().images[3] * 255 / 16).astype("uint8")).save(image)
    backbone = dino[0] / "backbone"
    attention = main_of("inspect_attention")([str(backbone), str(image), "--picture", str(picture)])
    counts = [int(number) for number in re.findall(r"60% of the attention on (\d+) of 36", capsys.readouterr().out)]
    assert len(counts) == AutoConfig.from_pretrained(backbone).num_attention_heads
    for head, count in zip(attention[1:].flatten(1), counts, strict=True):
        largest = head.sort(descending=True).values
        assert largest[:count].sum() >= 0.6 * head.sum() > largest[: count - 1].sum()
    assert min(Image.open(picture).size) > 300


def test_attention_of_a_layer_is_what_transformers_returns(dino, tmp_path):
    image = tmp_path / "digit.png"
    Image.fromarray((load_digits().images[3] * 255 / 16).astype("uint8")).save(image)
    backbone = str(dino[0] / "backbone")
    main, options = main_of("inspect_attention"), ["--picture", str(tmp_path / "attention.png")]
    first, last = (main([backbone, str(image), "--layer", str(layer), *options]) for layer in (0, -1))
    model = AutoModel.from_pretrained(backbone, attn_implementation="eager").eval()
    inputs = AutoImageProcessor.from_pretrained(backbone)(Image.open(image), return_tensors="pt")
    attentions = model(**inputs, output_attentions=True).attentions
    for found, layer in ((first, attentions[0]), (last, attentions[-1])):
        torch.testing.assert_close(found[1:].flatten(1), layer[0, :, 0, 1:])
    with pytest.raises(ValueError, match=r"layer must be in \[-2, 1\], got 2"):
        main([backbone, str(image), "--layer", "2", *options])


def test_a_model_goes_to_the_hub_and_comes_back(tmp_path, monkeypatch, capsys):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home", hub.token):
        for name, value in hub.environment(tmp_path / "home", hub.token).items():
            monkeypatch.setenv(name, value)  # for the Python process that the script starts
        main_of("push_and_pull")(["user/vit-digits", "--steps", "80"])
        printed = last_line(capsys)
        files = set(hub.repository("user/vit-digits").head.files)
    assert (printed["here"], printed["elsewhere"]) == ("same", "same")
    assert float(printed["accuracy"]) > 0.5  # chance: 0.1
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "modeling_vit.py", "README.md"} <= files


def test_upernet_learns_the_masks_of_photographs(tmp_path, capsys):
    picture = tmp_path / "upernet.png"
    losses, iou = main_of("upernet_coat_photographs")([str(picture), "--steps", "30"])
    assert mean(losses[-5:]) < 0.5 * mean(losses[:5])
    assert iou > 0.6
    assert f"iou={iou:.3f}" in capsys.readouterr().out
    assert min(Image.open(picture).size) > 500
