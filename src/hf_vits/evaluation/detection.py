"""Average precision of detections, as COCO measures it.

pycocotools computes it. Its COCOeval takes the annotation id 0 for "unmatched" (2.0.11), so that the object with this
id never counts as found; here objects get ids of their own, from 1.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hf_vits.processing.detection import compressed_runs

# {end of a score's name: its place in COCOeval.stats}
SCORES = {"AP": 0, "AP50": 1, "AP75": 2, "AP_small": 3, "AP_medium": 4, "AP_large": 5, "AR": 8}


def average_precisions(
    references: Sequence[Mapping[str, torch.Tensor]],
    detections: Sequence[Mapping[str, torch.Tensor]],
    class_names: Sequence[str],
    kind: str = "box",
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the scores by name, such as box_AP and box_AP50, and the average precision of each class.

    Sizes are COCO's: small objects have an area below 32 x 32 pixels, large ones above 96 x 96. A score is NaN where
    there is no object that it counts.

    Args:
        references: of each image `boxes` (n, 4), corners, `class_labels` (n,), and optionally `iscrowd` (n,), `area`
            (n,) and `masks` (n, height, width). What overlaps a crowd is neither right nor wrong.
        detections: of each image `scores`, `labels`, `boxes` and for kind "mask" `masks`, all in the same pixels.
        kind: "box" or "mask", by which the overlap is measured.

    Raises:
        ImportError: pycocotools is missing.
        ValueError: there is not one entry of detections for each image.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError("average precision needs pycocotools: pip install 'hf_vits[detection]'") from error
    if len(references) != len(detections):
        raise ValueError(f"detections must be of {len(references)} images, as references, got {len(detections)}")
    found = [item for index, image in enumerate(detections) for item in entries(image, index, "labels", kind)]
    if not found:
        names = {f"{kind}_{end}": 0.0 if any(len(r["boxes"]) for r in references) else float("nan") for end in SCORES}
        return names, dict.fromkeys(class_names, names[f"{kind}_AP"])
    known = [item for index, image in enumerate(references) for item in entries(image, index, "class_labels", kind)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth, result = COCO(), COCO()
        data: Any
        for data, items in ((truth, known), (result, found)):
            data.dataset = {
                # The size is read, but used for polygons alone.
                "images": [{"id": index, "height": 1, "width": 1} for index in range(len(references))],
                "categories": [{"id": index, "name": name} for index, name in enumerate(class_names)],
                "annotations": [{"id": number, **item} for number, item in enumerate(items, start=1)],
            }
            data.createIndex()
        evaluation = COCOeval(truth, result, "bbox" if kind == "box" else "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # (thresholds, recalls, classes, areas, numbers of detections); -1 where a class has no object.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    by_class = {name: mean_of(precision[:, :, index]) for index, name in enumerate(class_names)}
    return {f"{kind}_{end}": mean_of(evaluation.stats[place : place + 1]) for end, place in SCORES.items()}, by_class


def mean_of(values: np.ndarray) -> float:
    """Return the mean of the values that are not -1, which stands for none; NaN if all are."""
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


def entries(image: Mapping[str, Any], index: int, labels: str, kind: str) -> list[dict[str, Any]]:
    """Return the objects of an image as COCOeval reads them, without ids."""
    boxes, classes = image["boxes"].double().cpu(), image[labels].tolist()
    sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
    rows = []
    for number, (box, label) in enumerate(zip(sides, classes, strict=True)):
        row = {"image_id": index, "category_id": int(label), "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for name in ("iscrowd", "area"):
            if name in image:
                row[name] = image[name][number].item()
        if "scores" in image:
            row["score"] = float(image["scores"][number])
        if kind == "mask":
            mask = image["masks"][number]
            row["segmentation"] = {"size": list(mask.shape), "counts": compressed_runs(mask)}
            if "area" not in image:
                row["area"] = float(mask.sum())
        rows.append(row)
    return rows
