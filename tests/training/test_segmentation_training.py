"""The task semantic-segmentation: runs, joint augmentation, windows, commands and pipeline, and what is refused."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForSemanticSegmentation, pipeline

from hf_vits.cli import build_parser, evaluation
from hf_vits.cli.evaluate import run as evaluate
from hf_vits.cli.models import describe_size, empty_model, load_model
from hf_vits.cli.predict import run as predict
from hf_vits.cli.predict import show
from hf_vits.data.images.masked import IGNORED
from hf_vits.data.splits import Split
from hf_vits.evaluation.mean_iou import mean_iou
from hf_vits.evaluation.segmenters import measure, summarize
from hf_vits.evaluation.sliding_window import segment, starts
from hf_vits.figures.segments import palette
from hf_vits.hub import save_for_hub
from hf_vits.processing.segmentation import VitsSegmentationProcessor
from hf_vits.recipe import AugmentationRecipe, load_recipe
from hf_vits.training import build_trainer, tasks, train
from hf_vits.training.building import build_model
from hf_vits.training.classification import label_fields
from hf_vits.training.examples.batches import SampleKey
from hf_vits.training.examples.masks import TrainingMasks, largest_fraction

BACKBONE = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BACKBONE |= {"intermediate_size": 16, "hidden_dropout_prob": 0.1}
NAMES = ("background", "digit")
PROCESSOR = VitsSegmentationProcessor(size={"shortest_edge": 40})


def recipe(directory, source, head: str = "linear", **segmentation) -> dict:
    return {
        "task": "semantic-segmentation",
        "model": {
            "system": "deit",
            "variant": "deit_tiny_patch16_224",
            "config": BACKBONE,
            "segmentation": {"head": head, "hidden_size": 8, **segmentation},
            "processor": {"size": {"shortest_edge": 40}},
        },
        "data": {"source": "folder", "path": str(source), "validation_fraction": 0},
        "augmentation": {"flip": 0.5, "short_side": [24, 48], "color_jitter": 0.2, "crop_class_fraction": 0.95},
        "optimizer": {"learning_rate": 1e-2},
        "train": {"length": "2 steps", "batch_size": 2, "log_every": "1 step", "save_every": "1 step"},
        "output": {"directory": str(directory)},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with masks of two classes, of which some pixels are not labelled."""
    root, random = tmp_path_factory.mktemp("masks"), np.random.default_rng(0)
    (root / "classes.txt").write_text("\n".join(NAMES))
    for split, count in (("train", 6), ("test", 2)):
        for number in range(count):
            mask = np.zeros((40, 56), np.uint8)
            top, left = random.integers(0, 20, 2)
            mask[top : top + 18, left : left + 30] = 1
            image = np.where(mask[..., None] == 1, 220, 30) + random.integers(0, 30, (40, 56, 3))
            mask[:2] = IGNORED
            for kind, pixels in (("images", image.astype(np.uint8)), ("masks", mask)):
                (root / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / split / kind / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folder):
    """A finished run of UperNet, evaluated at each step."""
    directory = tmp_path_factory.mktemp("upernet")
    given = recipe(directory, folder, "upernet", auxiliary=False)
    given["train"] |= {"evaluate_every": "1 step"}
    given["output"] |= {"best": "mean_iou"}
    return directory, train(given)


def test_upernet_is_trained_measured_and_reported(trained):
    directory, results = trained
    assert results["best_step"] in (1, 2)
    assert {"loss", "mean_iou", "pixel_accuracy", "mean_accuracy"} <= results["test"].keys()
    for name in ("README.md", "segments.png", "curves.png"):
        assert (directory / name).stat().st_size > 100
    lines = (directory / "class_iou.csv").read_text().splitlines()
    assert lines[0] == "class,iou,accuracy,pixels"
    assert [line.split(",")[0] for line in lines[1:]] == list(NAMES)
    logged = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    best = max(entry["eval_mean_iou"] for entry in logged if "eval_mean_iou" in entry)
    assert results["test"]["mean_iou"] == pytest.approx(best)
    card = (directory / "README.md").read_text()
    assert "pipeline_tag: image-segmentation" in card
    assert "import hf_vits" in card
    assert "AutoModelForSemanticSegmentation" in card
    code = card.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")


def test_a_saved_segmenter_is_a_pipeline(trained, tmp_path):
    model = AutoModelForSemanticSegmentation.from_pretrained(trained[0])
    processor = VitsSegmentationProcessor.from_pretrained(trained[0])
    whole = save_for_hub(model, tmp_path / "hub", processor)
    assert not list(whole.glob("*.py"))  # it needs hf_vits anyway
    image = Image.new("RGB", (56, 40), "white")
    found = pipeline("image-segmentation", model=str(whole))(image)
    assert {entry["label"] for entry in found} <= set(NAMES)
    assert sum(np.asarray(entry["mask"], dtype=int) for entry in found).tolist() == np.full((40, 56), 255).tolist()


def test_a_segmenter_is_described(trained):
    model = load_model(str(trained[0]))
    described = describe_size(empty_model(type(model), model.config))
    assert described == {"parameters": trained[1]["parameters"], "input": "3x32x32", "classes": 2}


def test_predict_writes_palette_masks_and_overlays(trained, folder, tmp_path, capsys):
    files, figure = str(folder / "test" / "images"), str(tmp_path / "figure.png")
    options = ["--masks", str(tmp_path / "out"), "--figure", figure]
    args = build_parser(["predict"]).parse_args(["predict", str(trained[0]), files, *options])
    result = predict(args)
    row = result["predictions"][0]
    mask = Image.open(row["mask"])
    assert (mask.mode, mask.size) == ("P", (56, 40))
    assert mask.getpalette()[:9] == palette()[:3].ravel().tolist()
    assert Image.open(row["overlay"]).size == (56, 40)
    counts = np.bincount(np.asarray(mask).ravel(), minlength=2) / mask.width / mask.height
    assert {area["label"]: area["fraction"] for area in row["areas"]} == {
        name: pytest.approx(fraction) for name, fraction in zip(NAMES, counts, strict=True) if fraction
    }
    assert args.figure.is_file()
    show(result)
    assert "classes, largest first" in capsys.readouterr().out
    args.files.append(folder / "train" / "images")
    with pytest.raises(ValueError, match=r"would both be written to 0_mask\.png"):
        predict(args)


def test_evaluate_measures_what_the_run_measured(trained, folder, tmp_path):
    figure = str(tmp_path / "figure.png")
    args = build_parser(["evaluate"]).parse_args(["evaluate", str(trained[0]), str(folder), "--figure", figure])
    result = evaluate(args)
    for name, value in trained[1]["test"].items():
        assert result[name] == pytest.approx(value, rel=1e-5)
    assert [row["class"] for row in result["classes"]] == list(NAMES)
    assert args.figure.is_file()
    evaluation.load("segment").show(result)


def test_a_run_with_a_head_on_tokens_that_was_cut_off_resumes_exactly(folder, tmp_path, capsys):
    whole, cut = (recipe(tmp_path / name, folder, "fcn") for name in ("whole", "cut"))
    for given in (whole, cut):
        given["output"]["keep_checkpoints"] = 2
    train(whole)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in ("results.json", "model.safetensors", "config.json"):
        (tmp_path / "cut" / name).unlink()
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "checkpoint-2")
    train(cut)
    assert "resuming from step 1 of 2" in capsys.readouterr().err
    models = [AutoModelForSemanticSegmentation.from_pretrained(tmp_path / name) for name in ("whole", "cut")]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


def test_a_frozen_backbone_is_not_trained(folder, tmp_path):
    trainer = build_trainer(recipe(tmp_path, folder, frozen=True))
    model = trainer.model.train()
    assert not model.backbone.training
    model(torch.rand(1, 3, 32, 32), labels=torch.zeros(1, 32, 32, dtype=torch.long)).loss.backward()
    assert {name for name, value in model.named_parameters() if value.grad is not None} == {
        "classifier.weight",
        "classifier.bias",
    }
    model.save_pretrained(tmp_path)
    again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert not any(parameter.requires_grad for parameter in again.backbone.parameters())
    with pytest.raises(ValueError, match="pixel_values is missing"):
        again()


def test_backbones_keep_their_weights_below_a_new_head(trained, tmp_path):
    task = tasks.load("semantic-segmentation")
    head = label_fields(list(NAMES))
    section = load_recipe(recipe(tmp_path, tmp_path)).model
    section.segmentation.frozen = True
    first, _ = build_model(section, head, task)
    first.backbone.save_pretrained(tmp_path)
    PROCESSOR.save_pretrained(tmp_path)
    again = {"pretrained": str(tmp_path), "config": {"image_size": 48}, "segmentation": {"head": "upernet"}}
    given = recipe(tmp_path, tmp_path) | {"model": again}
    given["model"]["segmentation"] |= {"stages": [1, 2], "auxiliary": False}
    model, processor = build_model(load_recipe(given).model, head, task)
    assert processor.size.shortest_edge == 48
    assert model.backbone.out_indices == [1, 2]
    expected, found = first.backbone.state_dict(), model.backbone.model.state_dict()
    resized = {name for name, value in found.items() if value.shape != expected[name].shape}
    assert resized == {"embeddings.position_embedding.table"}
    assert all(torch.equal(expected[name], value) for name, value in found.items() if name not in resized)
    more, _ = build_model(load_recipe(given | {"model": {"pretrained": str(trained[0])}}).model, head, task)
    assert torch.equal(
        more.decode_head.classifier.weight,
        AutoModelForSemanticSegmentation.from_pretrained(trained[0]).decode_head.classifier.weight,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [1, 7], "auxiliary": False}, "segmentation.stages: the DeiTModel has 2, got 7"),
        ({}, "set it to false, or give more segmentation.stages"),
        ({"frozen": True}, "segmentation.frozen goes with segmentation.head: linear or fcn"),
        ({"stages": [2, 1]}, r"must be rising numbers from 1 on, got \[2, 1\]"),
    ],
)
def test_heads_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        build_model(
            load_recipe(recipe(tmp_path, tmp_path, "upernet", **changes)).model,
            label_fields(list(NAMES)),
            tasks.load("semantic-segmentation"),
        )


# augmentation


def a_split(mask: np.ndarray) -> Split:
    """A split of one image, whose pixels show the mask's labels."""
    image = Image.fromarray(np.where(mask == IGNORED, 0, mask * 100).astype(np.uint8)).convert("RGB")
    return Split([(image, mask.astype(np.int64))], np.zeros(1, object))


def test_image_and_mask_are_augmented_together():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 15:30], mask[30:55, 50:75] = 1, 2
    settings = AugmentationRecipe(flip=0.5, short_side=[30, 60])
    plain = VitsSegmentationProcessor(size={"shortest_edge": 60}, do_normalize=False)
    dataset = TrainingMasks(a_split(mask), plain, "RGB", (48, 48), settings)
    samples = [dataset[SampleKey(0, seed, None, 0, 0)] for seed in range(8)]
    for sample in samples:
        pixels, labels = sample["pixel_values"][0] * 255, sample["labels"]
        assert set(labels.unique().tolist()) <= {0, 1, 2, IGNORED}  # nothing between
        inside = labels != IGNORED
        wrong = (pixels[inside] / 100).round() != labels[inside]
        assert wrong.float().mean() < 0.1  # edges alone, which are smoothed
    assert any((sample["labels"] == IGNORED).any() for sample in samples)  # beyond small images
    again = dataset[SampleKey(0, 3, None, 0, 0)]
    assert all(torch.equal(again[name], samples[3][name]) for name in again)
    assert not all(torch.equal(sample["labels"], samples[0]["labels"]) for sample in samples)


def test_one_mean_stands_for_all_channels_beyond_the_image():
    settings = AugmentationRecipe(short_side=[16, 16])
    one = VitsSegmentationProcessor(image_mean=0.5, image_std=0.25)
    sample = TrainingMasks(a_split(np.zeros((16, 16), np.uint8)), one, "RGB", (32, 32), settings)[
        SampleKey(0, 0, None, 0, 0)
    ]
    assert sample["pixel_values"].shape == (3, 32, 32)
    assert sample["pixel_values"][:, sample["labels"] == 255].abs().max() < 0.02


def test_crops_of_one_class_are_drawn_again():
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :12] = 1
    fractions = []
    for largest in (None, 0.75):
        settings = AugmentationRecipe(short_side=[64, 64], crop_class_fraction=largest)
        dataset = TrainingMasks(a_split(mask), PROCESSOR, "RGB", (16, 16), settings)
        drawn = [dataset[SampleKey(0, seed, None, 0, 0)]["labels"] for seed in range(20)]
        fractions.append(np.mean([largest_fraction(labels) < 0.75 for labels in drawn]))
    assert fractions[1] > fractions[0] + 0.2


def test_other_augmentation_is_refused():
    with pytest.raises(ValueError, match=r"augmentation\.mixup is not for masks"):
        TrainingMasks(a_split(np.zeros((9, 9))), PROCESSOR, "RGB", (8, 8), AugmentationRecipe(mixup=0.1))


def test_a_batch_without_labels_has_no_loss(folder, tmp_path):
    trainer = build_trainer(recipe(tmp_path, folder))
    batch = {"pixel_values": torch.rand(2, 3, 32, 32), "labels": torch.full((2, 32, 32), IGNORED)}
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad.abs().max() == 0 for parameter in trainer.model.classifier.parameters())


# windows and measures


def test_windows_cover_an_image():
    assert starts(512, 512) == [0]
    assert starts(683, 512) == [0, 171]
    assert starts(1024, 512) == [0, 341, 512]
    assert starts(20, 32) == [0]


def test_the_logits_of_windows_are_averaged():
    seen = []

    def model(pixel_values):
        seen.append(pixel_values.shape)
        means = pixel_values.mean((2, 3), keepdim=True).expand_as(pixel_values)
        return SimpleNamespace(logits=torch.cat([pixel_values, means], 1))

    images = torch.rand(2, 1, 40, 50)
    logits = segment(model, images, (16, 24))
    torch.testing.assert_close(logits[:, :1], images)  # of a model that looks at each pixel alone
    assert {tuple(shape[-2:]) for shape in seen} == {(16, 24)}
    small = segment(model, images[..., :10, :12], (16, 24))
    torch.testing.assert_close(small[:, :1], images[..., :10, :12])


def test_scores_of_images_add_up_to_the_scores_of_all_pixels():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 6, 5, generator=random)
    masks = torch.randint(0, 3, (3, 6, 5), generator=random)  # class 3 does not occur in them
    masks[0, :2] = IGNORED
    found = [measure(one, mask) for one, mask in zip(logits, masks, strict=True)]
    counts, losses = (torch.stack(parts).numpy() for parts in zip(*found, strict=True))
    scores, measured = summarize(counts, losses)
    whole = mean_iou(logits.argmax(1).numpy(), masks.numpy(), 4, 4, None)
    assert measured.iou.tolist() == whole.iou.tolist()
    expected = torch.nn.functional.cross_entropy(logits, masks, ignore_index=IGNORED)
    assert scores["loss"] == pytest.approx(expected.item())
    known = masks != IGNORED
    assert scores["pixel_accuracy"] == pytest.approx((logits.argmax(1) == masks)[known].float().mean().item())
    absent = measure(torch.stack([logits[0, 0], logits[0, 1], torch.full((6, 5), -99.0)]), masks[1] % 2)[0][None]
    assert summarize(absent.numpy(), losses[:1])[1].present_mean > summarize(absent.numpy(), losses[:1])[1].mean
