"""Semantic segmentation of images: a mask and an overlay for each."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import AutoImageProcessor

from hf_vits.data.images import IMAGES as MEDIA
from hf_vits.data.images import image_mode
from hf_vits.evaluation.sliding_window import classes_of
from hf_vits.figures.segments import Segmented, draw_overlays, write_mask, write_overlay
from hf_vits.processing.opening import open_image

from ..models import load_with

CHECKED_FIRST = True
_MOST_DRAWN = 12
_FOLDER = Path("masks")


def predict(args: argparse.Namespace, paths: list[Path]) -> list[dict[str, Any]]:
    """Write <name>_mask.png, a palette PNG of class numbers, and <name>_overlay.png of each image.

    Returns:
        {file, mask, overlay, areas: [{label, fraction}, ...]} per image, `fraction` being that of the image's pixels.

    Raises:
        ValueError: two images have the same name, but for folder and ending.
    """
    folder = args.masks or _FOLDER
    names: dict[str, Path] = {}
    for path in paths:
        if names.setdefault(path.stem, path) != path:
            raise ValueError(
                f"{path} and {names[path.stem]} would both be written to {path.stem}_mask.png: predict them apart, "
                "with another --masks"
            )
    model, processor = load_with(AutoImageProcessor, args.model)
    folder.mkdir(parents=True, exist_ok=True)
    rows, drawn = [], []
    for path, one in segmented(model, processor, paths):
        row = {"file": str(path), "mask": str(folder / f"{path.stem}_mask.png")}
        row["overlay"] = str(folder / f"{path.stem}_overlay.png")
        write_mask(one.predicted, Path(row["mask"]))
        write_overlay(one.image, one.predicted, Path(row["overlay"]))
        rows.append(row | {"areas": areas(one.predicted, model.config.id2label)[: args.top_k]})
        if args.figure and len(drawn) < _MOST_DRAWN:
            drawn.append(one)
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_overlays(drawn, [model.config.id2label[index] for index in range(model.config.num_labels)], args.figure)
    return rows


def segmented(model, processor, paths: list[Path]) -> Iterator[tuple[Path, Segmented]]:
    """Yield each path with its image and the classes of its pixels."""
    mode = image_mode(model)
    for path in tqdm(paths, desc="Segmenting", unit="image", disable=None):
        image = open_image(path, mode)
        yield path, Segmented(image, None, classes_of(model, processor, image))


def areas(classes: np.ndarray, id2label: dict[int, str]) -> list[dict[str, Any]]:
    """Return the classes of an image with the fraction of its pixels, the largest first."""
    found, counts = np.unique(classes, return_counts=True)
    rows = [
        {"label": id2label[label], "fraction": count / classes.size}
        for label, count in zip(found.tolist(), counts.tolist(), strict=True)
    ]
    return sorted(rows, key=lambda row: -row["fraction"])


__all__ = ["CHECKED_FIRST", "MEDIA", "predict"]
