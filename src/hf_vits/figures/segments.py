"""Pictures of segmentations beside the truth."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from torch import Tensor

from hf_vits.evaluation.mean_iou import IGNORED, MeanIoU
from hf_vits.files import writing
from hf_vits.pretraining.method import Column

from .features import draw_columns
from .grid import save_figure

_OPACITY = 0.6  # of colours over an image
_SIDE = 2.2  # inches of an image
_NAMED, _NAMED_COLUMNS = 24, 4


def draw_segments(
    pixel_values: Tensor, truth: Tensor, predictions: dict[str, np.ndarray], processor, path: Path
) -> None:
    """Draw images, their masks, and segmentations of them, classes in the same colours.

    Args:
        pixel_values: (images, channels, height, width), as the image processor made them.
        truth: (images, rows, columns), classes; 255 is drawn white, class 0 black.
        predictions: {title: classes (images, rows, columns)}.
        path: of the PNG to write.
    """
    maps = {"truth": truth.cpu().numpy(), **predictions}
    columns = [Column(title, torch.from_numpy(colours(labels)), is_map=True) for title, labels in maps.items()]
    draw_columns([Column("image", pixel_values), *columns], processor, path)


@cache
def palette() -> np.ndarray:
    """Return the colours (256, 3) of uint8 of labels: black for 0, white for 255, no two alike."""
    pairs = np.array(matplotlib.colormaps["tab20"].colors)  # pyright: ignore[reportAttributeAccessIssue]
    first = np.concatenate([pairs[::2], pairs[1::2]])  # strong and pale
    numbers = np.arange(IGNORED - 1 - len(first))
    # Hues that differ by the golden ratio are far from those before them.
    hues = np.stack([numbers * 0.618 % 1, 0.45 + numbers % 3 * 0.25, 0.95 - numbers % 4 * 0.15], axis=1)
    parts = [np.zeros((1, 3)), first, matplotlib.colors.hsv_to_rgb(hues), np.ones((1, 3))]
    return np.rint(255 * np.concatenate(parts)).astype(np.uint8)


def colours(labels: np.ndarray) -> np.ndarray:
    """Return a colour (..., 3) from 0 to 1 for each label: black for 0, white for 255, else one of 254 that repeat."""
    labels = labels.astype(int)
    return palette()[np.where((labels == 0) | (labels == IGNORED), labels, (labels - 1) % (IGNORED - 1) + 1)] / 255


def overlay(image: Image.Image | np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return an image (height, width, 3) from 0 to 1 with the colours of labels (height, width) over it.

    Args:
        image: an image of Pillow, or an array (height, width[, 3]) from 0 to 1.
    """
    pixels = np.asarray(image.convert("RGB")) / 255 if isinstance(image, Image.Image) else image
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    known = (labels != IGNORED)[..., None]
    return np.where(known, (1 - _OPACITY) * pixels + _OPACITY * colours(labels), pixels)


def write_mask(labels: np.ndarray, path: Path) -> None:
    """Write labels (height, width) as a palette PNG, whose values are the labels, whole or not at all."""
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette(palette().ravel().tolist())
    _save(image, path)


def write_overlay(image: Image.Image, labels: np.ndarray, path: Path) -> None:
    """Write an image with the colours of labels (height, width) over it as PNG, whole or not at all."""
    _save(Image.fromarray(np.rint(255 * overlay(image, labels)).astype(np.uint8)), path)


def _save(image: Image.Image, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        image.save(partial, format="PNG")
        partial.replace(path)


class Segmented(NamedTuple):
    """An image, its mask and the classes that were predicted, both (height, width); no mask where none is known."""

    image: Image.Image
    truth: np.ndarray | None
    predicted: np.ndarray


def draw_overlays(examples: Sequence[Segmented], class_names: Sequence[str], path: Path) -> None:
    """Draw images, the known and the predicted classes over them, one image per row, and the names of the colours.

    Named are the classes that occur, at most 24 of them, those of most pixels first.
    """
    counts = sum(np.bincount(one.predicted.ravel().astype(int), minlength=len(class_names)) for one in examples)
    for one in examples:
        if one.truth is not None:
            counts = counts + np.bincount(one.truth.ravel(), minlength=IGNORED + 1)[: len(class_names)]
    shown = [label for label in np.argsort(-counts, kind="stable").tolist() if counts[label]][:_NAMED]
    columns = 2 if all(one.truth is None for one in examples) else 3
    legend = 0.22 * -(-len(shown) // _NAMED_COLUMNS) + 0.1
    figure = Figure(figsize=(_SIDE * columns, _SIDE * len(examples) + legend), layout="constrained")
    grid = figure.subplots(len(examples), columns, squeeze=False)
    for number, (row, one) in enumerate(zip(grid, examples, strict=True)):
        pictures = {"image": np.asarray(one.image.convert("RGB")) / 255}
        if columns == 3:
            pictures["truth"] = pictures["image"] if one.truth is None else overlay(one.image, one.truth)
        pictures["predicted"] = overlay(one.image, one.predicted)
        for axes, (title, picture) in zip(row, pictures.items(), strict=True):
            axes.imshow(picture)
            axes.axis("off")
            if number == 0:
                axes.set_title(title, fontsize=9)
    handles = [
        Patch(facecolor=tuple(palette()[label] / 255), edgecolor="grey", label=class_names[label]) for label in shown
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=_NAMED_COLUMNS, fontsize=7, frameon=False)
    save_figure(figure, path)


def as_classes(predictions: np.ndarray, measured: MeanIoU) -> np.ndarray:
    """Return the class of each cluster in predictions, as they were matched."""
    return predictions if measured.classes is None else measured.classes[predictions]
