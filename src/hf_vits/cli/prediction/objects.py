"""Detection of objects in images, with their masks where the model has them."""

import argparse
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoImageProcessor

from hf_vits.data.images import IMAGES as MEDIA
from hf_vits.data.images import image_mode
from hf_vits.figures.objects import Scene, detected_scene, draw_scenes
from hf_vits.layers.regions import paste_masks
from hf_vits.processing.detection import VitsDetectionProcessor, compressed_runs
from hf_vits.processing.opening import open_image

from ..models import load_with

CHECKED_FIRST = True
_MOST_DRAWN, _COLUMNS = 12, 3


def predict(args: argparse.Namespace, paths: list[Path]) -> list[dict[str, Any]]:
    """Return {file, objects: [{label, score, box, segmentation}, ...]} per image, by falling score.

    `box` is (x0, y0, x1, y1) in pixels; `segmentation`, of models with masks, COCO's compressed run-length encoding.
    Draw the first images with --figure, and write all objects in COCO's format with --coco.
    """
    model, processor = load_with(AutoImageProcessor, args.model)
    if not hasattr(processor, "post_process_object_detection"):
        raise ValueError(f"{args.model} has a {type(processor).__name__}, which makes no boxes of a model's outputs")
    # Not one batch of all: images of different sizes are padded to the largest.
    found = list(detect(model, processor, paths, args.threshold, max(args.batch_size // 8, 1)))
    rows = [described(path, image, model.config.id2label) for path, image in zip(paths, found, strict=True)]
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        drawn = zip(paths[:_MOST_DRAWN], found, strict=False)
        draw_scenes([scene(path, image, model.config.id2label) for path, image in drawn], args.figure, _COLUMNS)
    if args.coco:
        args.coco.parent.mkdir(parents=True, exist_ok=True)
        args.coco.write_text(json.dumps(coco_file(rows, found, model.config)), encoding="utf-8")
    return rows


def detect(
    model: Any, processor: Any, paths: list[Path], threshold: float, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Yield `scores`, `labels`, `boxes`, `masks` (None without) and `size`, (height, width), of each image."""
    mode = image_mode(model)
    with torch.inference_mode(), tqdm(total=len(paths), desc="Detecting", unit="image", disable=None) as bar:
        for start in range(0, len(paths), batch_size):
            images = [open_image(path, mode) for path in paths[start : start + batch_size]]
            sizes = [(image.height, image.width) for image in images]
            outputs = model(**processor(images, return_tensors="pt").to(model.device, model.dtype))
            if isinstance(processor, VitsDetectionProcessor):
                found = processor.detections(outputs, threshold, sizes)
            else:  # of transformers' detectors
                found = processor.post_process_object_detection(outputs, threshold, torch.tensor(sizes))
            for image, size in zip(found, sizes, strict=True):
                masks = image.get("masks")
                masks = None if masks is None else paste_masks(masks, image["boxes"], size).cpu()
                yield {name: image[name].cpu() for name in ("scores", "labels", "boxes")} | {
                    "masks": masks,
                    "size": size,
                }
            bar.update(len(images))


def described(path: Path, found: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    """Return {file, objects} of an image, as JSON holds it."""
    objects = []
    for number, (score, label) in enumerate(zip(found["scores"].tolist(), found["labels"].tolist(), strict=True)):
        row = {"label": names[label], "score": score, "box": found["boxes"][number].tolist()}
        if found["masks"] is not None:
            counts = compressed_runs(found["masks"][number]).decode()
            row["segmentation"] = {"size": list(found["size"]), "counts": counts}
        objects.append(row)
    return {"file": str(path), "objects": objects}


def coco_file(rows: list[dict[str, Any]], found: list[dict[str, Any]], config: Any) -> dict[str, Any]:
    """Return images, categories and annotations as COCO's files have them, each annotation with its `score`.

    Images are numbered as they are listed, categories as the model numbers its classes.
    """
    ids, annotations, images = count(1), [], []
    for index, (row, image) in enumerate(zip(rows, found, strict=True)):
        height, width = image["size"]
        images.append({"id": index, "file_name": row["file"], "height": height, "width": width})
        for item, label in zip(row["objects"], image["labels"].tolist(), strict=True):
            x0, y0, x1, y1 = item["box"]
            entry = {"id": next(ids), "image_id": index, "category_id": label, "iscrowd": 0}
            entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "score": item["score"]}
            annotations.append(entry | {key: item[key] for key in ("segmentation",) if key in item})
    categories = [{"id": number, "name": name} for number, name in sorted(config.id2label.items())]
    return {"images": images, "categories": categories, "annotations": annotations}


def scene(path: Path, found: dict[str, Any], names: dict[int, str]) -> Scene:
    """Return an image with its objects, to draw."""
    return detected_scene(open_image(path, "RGB"), found, names)


__all__ = ["CHECKED_FIRST", "MEDIA", "predict"]
