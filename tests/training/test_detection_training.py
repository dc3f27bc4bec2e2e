"""The task object-detection: runs of a tiny RetinaNet and Mask R-CNN, augmentation of objects, and what is refused."""

import json

import pytest
import torch
from transformers import AutoModelForInstanceSegmentation, AutoModelForObjectDetection

from hf_vits.data.objects import SOURCES
from hf_vits.data.splits import Split
from hf_vits.processing.detection import VitsDetectionProcessor
from hf_vits.recipe import AugmentationRecipe, DataRecipe
from hf_vits.training import train
from hf_vits.training.examples.batches import SampleKey
from hf_vits.training.examples.objects import EvaluationObjects, TrainingObjects, collate, flipped

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
