"""The processor of detectors: sizes, objects along with their images, and results in the original's pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_vits import VitsDetectionProcessor
from hf_vits.models.detection.modeling_detection import DetectionOutput

SQUARE = [[2, 1, 8, 1, 8, 5, 2, 5]]  # a polygon: columns 2 to 8, rows 1 to 5


def processor(**fields) -> VitsDetectionProcessor:
    return VitsDetectionProcessor(**{"size": {"shortest_edge": 20, "longest_edge": 40}, "size_divisor": 16} | fields)


def image(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def annotation(**fields) -> dict:
    return {"image_id": 7, "annotations": [{"bbox": [2, 1, 6, 4], "category_id": 1} | fields]}


@pytest.mark.parametrize(
    ("size", "expected"), [((800, 800), (800, 800)), ((600, 1000), (800, 1333)), ((50, 20), (1333, 533))]
)
def test_sizes_are_detectron2s(size, expected):
    assert VitsDetectionProcessor().resized_size(*size) == expected


def test_images_of_a_batch_are_padded_right_and_below():
    batch = processor()([image(10, 10), image(10, 16)], return_tensors="pt")
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    assert batch["pixel_mask"].sum((1, 2)).tolist() == [20 * 20, 20 * 32]
    assert (batch["pixel_values"][0, :, 20:] == 0).all()
    assert (batch["pixel_values"][0, :, :, 20:] == 0).all()


@pytest.mark.parametrize("kind", ["polygons", "uncompressed", "compressed", "array"])
def test_objects_are_resized_with_their_image(kind):
    mask = np.zeros((10, 16), dtype=np.uint8)
    mask[1:5, 2:8] = 1
    segmentation = {"polygons": SQUARE, "array": mask}.get(kind)
    if segmentation is None:
        from pycocotools import mask as coco

        runs = {"size": [10, 16], "counts": [21, *[4, 6] * 5, 4, 85]}
        segmentation = runs if kind == "uncompressed" else coco.frPyObjects(runs, 10, 16)
    batch = processor()(image(10, 16), annotation(segmentation=segmentation), return_tensors="pt")
    (labels,) = batch["labels"]
    assert labels["boxes"].tolist() == [[4, 2, 16, 10]]
    assert labels["class_labels"].tolist() == [1]
    assert labels["orig_size"].tolist() == [10, 16]
    assert labels["masks"].shape == (1, 32, 32)
    assert labels["masks"].sum() == 8 * 12
    assert labels["masks"][0, 2:10, 4:16].all()


def test_boxes_are_cut_to_the_image_and_those_without_area_left_out():
    objects = [
        {"bbox": [-2, 0, 6, 4], "category_id": 0},
        {"bbox": [3, 3, 0, 4], "category_id": 1},
        {"bbox": [40, 3, 5, 4], "category_id": 2},
    ]
    batch = processor(size_divisor=None)(image(20, 20), {"image_id": 0, "annotations": objects}, return_tensors="pt")
    (labels,) = batch["labels"]
    assert labels["boxes"].tolist() == [[0, 0, 4, 4]]
    assert labels["class_labels"].tolist() == [0]
    empty = processor()(image(20, 20), {"image_id": 0, "annotations": []}, return_tensors="pt")["labels"][0]
    assert empty["boxes"].shape == (0, 4)
    assert empty["masks"].shape == (0, 32, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [0, 0, 3]}, "four finite numbers"),
        ({"bbox": [0, 0, 3, float("nan")]}, "four finite numbers"),
        ({"segmentation": {"size": [10, 16], "counts": [3, 4]}}, "got 7 pixels"),
        ({"segmentation": {"size": [10, 16], "counts": b"\xff\x01"}}, "character 0"),
        ({"segmentation": {"size": [5, 5], "counts": b"0"}}, r"size \[5, 5\]"),
        ({"segmentation": "circle"}, "run-length encoding"),
        ({"segmentation": np.zeros((3, 3))}, "size of the image"),
    ],
)
def test_odd_annotations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        processor()(image(10, 16), annotation(**change), return_tensors="pt")


def test_annotations_that_are_missing_are_named():
    with pytest.raises(ValueError, match="has no category_id"):
        processor()(image(8, 8), {"annotations": [{"bbox": [0, 0, 2, 2]}]})
    with pytest.raises(ValueError, match="one for each image"):
        processor()([image(8, 8)], [annotation()] * 2)
    with pytest.raises(TypeError, match="image_id"):
        processor()([image(8, 8)], [[annotation()]])


def outputs() -> DetectionOutput:
    """Three detections of an image of 20 x 40 pixels, the second with a lower score inside the first, and padding."""
    return DetectionOutput(
        scores=torch.tensor([[0.9, 0.6, 0.2, 0.0]]),
        pred_labels=torch.tensor([[1, 0, 2, -1]]),
        pred_boxes=torch.tensor([[[0.0, 0, 20, 10], [0, 0, 20, 10], [30, 10, 50, 30], [0, 0, 0, 0]]]),
        pred_masks=torch.ones(1, 4, 28, 28),
        image_sizes=torch.tensor([[20, 40]]),
    )


def test_detections_are_in_the_originals_pixels():
    (found,) = processor().post_process_object_detection(outputs(), 0.1, target_sizes=[(40, 120)])
    assert found["scores"].tolist() == pytest.approx([0.9, 0.6, 0.2])
    assert found["labels"].tolist() == [1, 0, 2]
    assert found["boxes"].tolist() == [[0, 0, 60, 20], [0, 0, 60, 20], [90, 20, 120, 40]]
    (every,) = processor().post_process_object_detection(outputs(), 0.0)
    assert len(every["scores"]) == 3
    with pytest.raises(ValueError, match="one for each image"):
        processor().post_process_object_detection(outputs(), 0.5, target_sizes=[(4, 4)] * 2)


def test_segments_of_higher_score_cover_others():
    (found,) = processor().post_process_instance_segmentation(outputs(), 0.1)
    assert [(part["id"], part["label_id"]) for part in found["segments_info"]] == [(0, 1), (1, 2)]
    assert found["segmentation"].shape == (20, 40)
    assert (found["segmentation"] == 0).sum() == 200
    assert (found["segmentation"] == 1).sum() == 100
    (maps,) = processor().post_process_instance_segmentation(outputs(), 0.1, return_binary_maps=True)
    assert maps["segmentation"].sum((1, 2)).tolist() == [200, 200, 100]
    (runs,) = processor().post_process_instance_segmentation(outputs(), 0.5, return_coco_annotation=True)
    assert runs["segmentation"][0][:4] == [0, 10, 10, 10]
    assert sum(runs["segmentation"][0]) == 20 * 40
    plain = DetectionOutput(**{name: value for name, value in outputs().items() if name != "pred_masks"})
    with pytest.raises(ValueError, match="instance segmentation"):
        processor().post_process_instance_segmentation(plain)


def test_fields_are_saved(tmp_path):
    from transformers import AutoImageProcessor

    processor().save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, VitsDetectionProcessor)
    assert loaded.size_divisor == 16
    assert dict(loaded.size) == {"shortest_edge": 20, "longest_edge": 40}
