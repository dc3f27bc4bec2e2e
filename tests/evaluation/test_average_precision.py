"""COCO's average precision on detections whose scores are known."""

import math

import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster

from hf_vits.evaluation.detection import SCORES, average_precisions, entries

BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 20, 60, 60]])


def reference(**fields) -> dict[str, torch.Tensor]:
    return {"boxes": BOXES, "class_labels": torch.tensor([0, 0])} | fields


def detection(indices: list[int], scores: list[float], shift: float = 0.0) -> dict[str, torch.Tensor]:
    return {
        "boxes": BOXES[indices] + shift,
        "labels": torch.zeros(len(indices), dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


def test_one_of_two_objects_found_and_the_first_annotation_counts():
    """COCOeval would not count the object with id 0, which is the first of a usual file."""
    scores, classes = average_precisions([reference()], [detection([0], [0.9])], ["cat"])
    assert scores["box_AP"] == pytest.approx(51 / 101)  # precision 1 up to a recall of 0.5
    assert scores["box_AP_small"] == pytest.approx(1)
    assert scores["box_AP_medium"] == 0
    assert math.isnan(scores["box_AP_large"])
    assert classes == {"cat": pytest.approx(51 / 101)}
    alone = {"boxes": BOXES[:1], "class_labels": torch.tensor([0])}
    assert average_precisions([alone], [detection([0], [0.9])], ["cat"])[0]["box_AP"] == pytest.approx(1)


def test_a_wrong_detection_costs_only_where_its_score_is_higher():
    both = [reference(), reference()]
    right = detection([0, 1], [0.9, 0.8])
    late, early = (detection([0, 1, 0], [0.9, 0.8, score]) for score in (0.1, 0.95))
    for wrong in (late, early):
        wrong["boxes"][2] += 70
    assert average_precisions(both, [right, late], ["cat"])[0]["box_AP"] == pytest.approx(1)
    assert average_precisions(both, [right, early], ["cat"])[0]["box_AP"] < 1


def test_thresholds_of_overlap():
    scores, _ = average_precisions([reference()], [detection([1], [0.9], shift=4.0)], ["cat"])
    # The overlap is 36 * 36 / (2 * 1600 - 36 * 36) = 0.68, enough for the thresholds 0.5 to 0.65.
    assert scores["box_AP50"] == pytest.approx(51 / 101)
    assert scores["box_AP75"] == 0
    assert scores["box_AP"] == pytest.approx(0.4 * 51 / 101)


def test_what_overlaps_a_crowd_is_not_wrong():
    crowd = reference(iscrowd=torch.tensor([0, 1]), area=torch.tensor([100.0, 1600.0]))
    found = detection([1, 0], [0.95, 0.9])
    assert average_precisions([crowd], [found], ["cat"])[0]["box_AP"] == pytest.approx(1)


def test_masks_are_compared_by_their_pixels():
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :10, :10], masks[1, 20:60, 20:60] = True, True
    found = detection([0, 1], [0.9, 0.8]) | {"masks": masks.clone()}
    assert average_precisions([reference(masks=masks)], [found], ["cat"], "mask")[0]["mask_AP"] == pytest.approx(1)
    found["masks"][1, 20:40] = False  # half of the pixels: only the threshold 0.5 is reached
    scores, _ = average_precisions([reference(masks=masks)], [found], ["cat"], "mask")
    assert scores["mask_AP50"] == pytest.approx(1)
    assert scores["mask_AP75"] == pytest.approx(51 / 101)


def test_nothing_found_and_nothing_to_find():
    nothing = detection([], [])
    assert average_precisions([reference()], [nothing], ["cat"])[0]["box_AP"] == 0
    empty = {"boxes": BOXES[:0], "class_labels": torch.zeros(0, dtype=torch.int64)}
    assert math.isnan(average_precisions([empty], [nothing], ["cat"])[0]["box_AP"])
    with pytest.raises(ValueError, match="1 images"):
        average_precisions([reference()], [], ["cat"])


def random_images(count: int = 12) -> tuple[list[dict], list[dict]]:
    """References with crowds, and detections near and beside them, of three classes, with masks that fill boxes."""
    random = torch.Generator().manual_seed(0)
    references, detections = [], []
    for _ in range(count):
        corners, sides = torch.randint(12, (4, 2), generator=random), torch.randint(2, 112, (4, 2), generator=random)
        boxes = torch.cat([corners, corners + sides], dim=1).float()
        classes = torch.randint(3, (4,), generator=random)
        crowds = (torch.rand(4, generator=random) < 0.2).long()
        references.append({"boxes": boxes, "class_labels": classes, "iscrowd": crowds, "masks": filled(boxes)})
        found = torch.cat([boxes + torch.randint(-3, 4, (4, 4), generator=random), boxes.flip(0)]).clamp(0)
        found[:, 2:] = torch.maximum(found[:, 2:], found[:, :2] + 1)
        scores = torch.rand(8, generator=random)
        labels = torch.cat([classes, torch.randint(3, (4,), generator=random)])
        detections.append({"boxes": found, "labels": labels, "scores": scores, "masks": filled(found)})
    return references, detections


def filled(boxes: torch.Tensor) -> torch.Tensor:
    masks = torch.zeros(len(boxes), 128, 128, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_pycocotools_and_faster_coco_eval_agree(kind):
    """Annotation ids here begin with 1, as `average_precisions` numbers them; 0 would count as unmatched in both."""
    references, detections = random_images()
    names = ["cat", "dog", "bird"]
    scores, _ = average_precisions(references, detections, names, kind)
    truth, found = (
        [item for index, image in enumerate(images) for item in entries(image, index, labels, kind)]
        for images, labels in ((references, "class_labels"), (detections, "labels"))
    )
    reference = COCO(
        {
            "images": [{"id": index, "height": 128, "width": 128} for index in range(len(references))],
            "categories": [{"id": index, "name": name} for index, name in enumerate(names)],
            "annotations": [{"id": number, **item} for number, item in enumerate(truth, start=1)],
        }
    )
    evaluation = COCOeval_faster(reference, reference.loadRes(found), "bbox" if kind == "box" else "segm")
    evaluation.run()
    assert 0.1 < scores[f"{kind}_AP"] < 0.9
    for end, place in SCORES.items():
        assert scores[f"{kind}_{end}"] == pytest.approx(float(evaluation.stats[place]), abs=1e-12)
