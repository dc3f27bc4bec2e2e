"""The task object-detection: runs of a tiny RetinaNet and Mask R-CNN, augmentation of objects, and what is refused."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForInstanceSegmentation, AutoModelForObjectDetection

from hf_vits.data.objects import SOURCES
from hf_vits.data.splits import Split
from hf_vits.processing.detection import VitsDetectionProcessor
from hf_vits.recipe import AugmentationRecipe, DataRecipe, ScaleJitterRecipe
from hf_vits.training import train
from hf_vits.training.examples.batches import SampleKey
from hf_vits.training.examples.image_augmentation import training_transform
from hf_vits.training.examples.object_augmentation import boxes_of, cut_out, flipped, pasted
from hf_vits.training.examples.objects import EvaluationObjects, TrainingObjects, collate

BACKBONE = {"hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2], "depths": [1, 1, 1, 1]}
HEADS = {"box_linear_size": 16, "head_size": 8, "mask_num_convolutions": 1, "train_max_proposals": 50}
HEADS |= {"max_proposals": 20, "regions_per_image": 16}
TRAIN = {"train": {"length": "2 steps", "batch_size": 2, "log_every": "1 step", "save_every": "1 step"}}
PROCESSOR = VitsDetectionProcessor(size={"shortest_edge": 48, "longest_edge": 64})


def recipe(directory, variant: str, **config) -> dict:
    return {
        "task": "object-detection",
        "model": {
            "system": "detection",
            "variant": variant,
            "config": {"backbone_config": BACKBONE | {"drop_path_rate": 0.1}, "pyramid_size": 8, **config},
            "processor": {"size": {"shortest_edge": 48, "longest_edge": 64}},
        },
        "data": {"source": "object_scenes", "config": "10x48"},
        "augmentation": {"flip": 0.5, "short_side": [40, 56]},
        "optimizer": {"learning_rate": 1e-3},
        "train": {"length": "2 steps", "batch_size": 2, "log_every": "1 step", "evaluate_every": "2 steps"},
        "output": {"directory": str(directory)},
    }


@pytest.fixture(scope="module")
def split() -> Split:
    return SOURCES.load(DataRecipe(source="object_scenes", config="10x48")).splits["train"]


def test_retina_net_is_trained_measured_and_reported(tmp_path):
    results = train(recipe(tmp_path, "RetinaNet_1x_RegionViT-S", head_num_layers=1))
    assert 0 <= results["test"]["box_AP"] <= 1
    assert "mask_AP" not in results["test"]
    for name in ("README.md", "detections.png", "curves.png", "average_precision.csv"):
        assert (tmp_path / name).stat().st_size > 100
    logged = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert {"loss_classes", "loss_boxes"} <= logged[0].keys()
    assert AutoModelForObjectDetection.from_pretrained(tmp_path).config.id2label[3] == "digit 3"


def test_a_run_with_masks_that_was_cut_off_resumes_exactly(tmp_path):
    whole, cut = (recipe(tmp_path / name, "MaskRCNN_1x_RegionViT-S", **HEADS) | TRAIN for name in ("whole", "cut"))
    results = train(whole)
    assert "mask_AP" in results["test"]
    train(cut)
    for name in ("results.json", "model.safetensors", "config.json"):
        (tmp_path / "cut" / name).unlink()
    for path in (tmp_path / "cut" / "checkpoints").glob("checkpoint-2"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    train(cut)
    models = [AutoModelForInstanceSegmentation.from_pretrained(tmp_path / name) for name in ("whole", "cut")]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


def test_objects_are_mirrored_with_their_image(split):
    sample = EvaluationObjects(split, PROCESSOR, "RGB", needs_masks=True)[0]
    mirrored = flipped(sample)
    boxes, masks = mirrored["objects"]["boxes"].round().long().tolist(), mirrored["objects"]["masks"]
    for (x0, y0, x1, y1), mask in zip(boxes, masks, strict=True):
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
    again = flipped(mirrored)
    torch.testing.assert_close(again["objects"]["boxes"], sample["objects"]["boxes"])
    assert torch.equal(again["pixel_values"], sample["pixel_values"])


def two_objects() -> dict:
    """A sample of 6 x 8 pixels, whose value is 10 * row + column, with two objects that fill their boxes."""
    rows, columns = torch.arange(6.0)[:, None], torch.arange(8.0)
    boxes = torch.tensor([[1.0, 1, 4, 3], [5, 2, 8, 6]])
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 1:3, 1:4], masks[1, 2:6, 5:8] = True, True
    objects = {"boxes": boxes, "class_labels": torch.tensor([3, 7]), "masks": masks}
    return {"pixel_values": (10 * rows + columns)[None].repeat(3, 1, 1), "objects": objects}


@pytest.mark.parametrize("with_masks", [True, False])
def test_a_square_has_what_is_left_of_its_objects(with_masks):
    sample, colour = two_objects(), torch.tensor([-1.0, -2.0, -3.0])
    if not with_masks:
        del sample["objects"]["masks"]
    square = cut_out(sample, top=2, left=2, side=5, colour=colour)
    pixels, objects = square["pixel_values"], square["objects"]
    assert pixels.shape == (3, 5, 5)
    assert pixels[0, :4].tolist() == [[10.0 * row + column for column in range(2, 7)] for row in range(2, 6)]
    assert (pixels[:, 4] == colour[:, None]).all()
    assert objects["boxes"].tolist() == [[0, 0, 2, 1], [3, 0, 5, 4]]
    assert objects["class_labels"].tolist() == [3, 7]
    gone = cut_out(sample, top=0, left=0, side=4, colour=colour)["objects"]
    assert gone["class_labels"].tolist() == [3]
    if with_masks:
        assert objects["masks"].shape == (2, 5, 5)
        assert torch.equal(boxes_of(objects["masks"]), objects["boxes"])
        assert gone["masks"].sum() == 6


def test_a_box_that_is_cut_is_that_of_the_mask_that_is_left():
    sample = two_objects()
    sample["objects"]["masks"][1, :, 7] = False  # the box is wider than the mask
    square = cut_out(sample, top=3, left=0, side=8, colour=torch.zeros(3))
    assert square["objects"]["boxes"].tolist() == [[5, 0, 7, 3]]
    whole = cut_out(sample, top=0, left=0, side=8, colour=torch.zeros(3))
    assert whole["objects"]["boxes"].tolist() == two_objects()["objects"]["boxes"].tolist()


def test_pasted_objects_cover_others():
    """The pasted object covers the first wholly and the second in part; what is below keeps the rest."""
    sample, other = two_objects(), two_objects()
    other["pixel_values"] = -other["pixel_values"]
    other["objects"]["boxes"] = torch.tensor([[0.0, 0, 6, 4], [5, 2, 8, 6]])
    other["objects"]["masks"][0, :4, :6] = True
    mixed = pasted(sample, other, torch.tensor([True, False]))
    pixels, objects = mixed["pixel_values"], mixed["objects"]
    assert torch.equal(pixels[:, :4, :6], other["pixel_values"][:, :4, :6])
    assert torch.equal(pixels[:, 4:], sample["pixel_values"][:, 4:])
    assert objects["class_labels"].tolist() == [7, 3]
    assert objects["boxes"].tolist() == [[5, 2, 8, 6], [0, 0, 6, 4]]
    assert objects["masks"].sum((1, 2)).tolist() == [12 - 2, 24]
    assert not (objects["masks"][0] & objects["masks"][1]).any()
    nothing = pasted(sample, other, torch.tensor([False, False]))
    assert torch.equal(nothing["pixel_values"], sample["pixel_values"])
    assert torch.equal(nothing["objects"]["masks"], sample["objects"]["masks"])


def test_jitter_and_copy_paste_make_squares_and_leave_crowds_out(split):
    labels = split.labels.copy()
    for index, label in enumerate(labels):
        crowd = label["annotations"][0] | {"iscrowd": 1}
        labels[index] = label | {"annotations": [crowd, *label["annotations"]]}
    jitter = ScaleJitterRecipe(scale=[0.5, 2.0], side=40)
    recipe = AugmentationRecipe(flip=0.5, scale_jitter=jitter, copy_paste=1.0)
    dataset = TrainingObjects(Split(split.inputs, labels), PROCESSOR, "RGB", True, recipe)
    samples = [dataset[SampleKey(index % 8, index, None, 0, 0)] for index in range(12)]
    assert {sample["pixel_values"].shape for sample in samples} == {(3, 40, 40)}
    again = dataset[SampleKey(3, 3, None, 0, 0)]
    assert torch.equal(again["pixel_values"], samples[3]["pixel_values"])
    counts = [len(sample["objects"]["boxes"]) for sample in samples]
    known = [len(label["annotations"]) - 1 for label in labels]
    assert any(count > known[index % 8] for index, count in enumerate(counts))
    assert all(count <= known[index % 8] + 3 for index, count in enumerate(counts))
    for sample in samples:
        masks, boxes = sample["objects"]["masks"], sample["objects"]["boxes"]
        assert masks.sum(0).max() <= 1
        torch.testing.assert_close(boxes_of(masks), boxes, atol=2.0, rtol=0)
    assert any(torch.equal(sample["pixel_values"][:, -1, -1], dataset.colour) for sample in samples)


@pytest.mark.parametrize(
    ("fields", "needs_masks", "message"),
    [
        ({"copy_paste": 0.5, "scale_jitter": ScaleJitterRecipe()}, False, "by their masks"),
        ({"copy_paste": 0.5}, True, "images of one size"),
    ],
)
def test_copy_paste_needs_masks_and_one_size(split, fields, needs_masks, message):
    with pytest.raises(ValueError, match=message):
        TrainingObjects(split, PROCESSOR, "RGB", needs_masks, AugmentationRecipe(**fields))
    with pytest.raises(ValueError, match="object-detection alone"):
        training_transform(AugmentationRecipe(**fields), PROCESSOR, (32, 32))
    with pytest.raises(StrictDataclassError, match="exclude each other"):
        AugmentationRecipe(scale_jitter=ScaleJitterRecipe(), short_side=[1, 2])


def test_training_samples_follow_from_their_key(split):
    dataset = TrainingObjects(split, PROCESSOR, "RGB", False, AugmentationRecipe(flip=0.5, short_side=[32, 64]))
    key = SampleKey(1, 5, None, 0, 0)
    torch.testing.assert_close(dataset[key]["pixel_values"], dataset[key]["pixel_values"])
    samples = [dataset[SampleKey(1, seed, None, 0, 0)] for seed in range(6)]
    assert len({sample["pixel_values"].shape for sample in samples}) > 1
    batch = collate(samples)
    assert batch["pixel_values"].shape[-1] == max(sample["pixel_values"].shape[-1] for sample in samples)
    assert batch["pixel_mask"][0].sum() == samples[0]["pixel_values"][0].numel()
    assert "masks" not in batch["labels"][0]


def test_other_augmentation_is_refused(split):
    with pytest.raises(ValueError, match=r"augmentation\.mixup is not for objects"):
        TrainingObjects(split, PROCESSOR, "RGB", False, AugmentationRecipe(mixup=0.1))


def test_a_model_of_masks_needs_them(split):
    label = {"image_id": 0, "annotations": [{"bbox": [1, 1, 5, 5], "category_id": 0}]}
    labels = split.labels.copy()
    labels[0] = label
    with pytest.raises(ValueError, match="without segmentation"):
        EvaluationObjects(Split(split.inputs, labels), PROCESSOR, "RGB", needs_masks=True)[0]
