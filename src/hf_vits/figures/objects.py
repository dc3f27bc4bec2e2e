"""Pictures of images with objects: boxes, names and masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from .grid import save_figure

_COLOURS = colormaps["tab10"].colors  # pyright: ignore[reportAttributeAccessIssue]
_OPACITY = 0.45  # of masks


@dataclass(frozen=True)
class Scene:
    """An image with objects.

    Attributes:
        boxes: (n, 4), corners (x0, y0, x1, y1) in pixels.
        names: what is written at each box.
        masks: (n, height, width), booleans; None for boxes alone.
    """

    image: Image.Image
    boxes: np.ndarray
    names: Sequence[str]
    masks: np.ndarray | None = None


def detected_scene(image: Image.Image, found: Mapping[str, Any], names: Mapping[int, str] | Sequence[str]) -> Scene:
    """Return an image with detections, each with the name of its class and its score.

    Args:
        found: tensors `scores` (n,), `labels` (n,), `boxes` (n, 4) and `masks` (n, height, width) or None.
    """
    pairs = zip(found["labels"].tolist(), found["scores"].tolist(), strict=True)
    masks = None if found["masks"] is None else found["masks"].cpu().numpy()
    return Scene(image, found["boxes"].cpu().numpy(), [f"{names[label]} {score:.0%}" for label, score in pairs], masks)


def draw_scenes(scenes: Sequence[Scene], path: Path, columns: int = 4) -> None:
    """Draw images with their objects, row by row, each object in a colour of its own."""
    rows = -(-len(scenes) // columns)
    figure = Figure(figsize=(3 * columns, 3 * rows), layout="constrained")
    for axes, scene in zip(
        figure.subplots(rows, columns, squeeze=False).flat, [*scenes, *[None] * columns], strict=False
    ):
        axes.axis("off")
        if scene is not None:
            draw_scene(axes, scene)
    save_figure(figure, path)


def draw_scene(axes, scene: Scene) -> None:
    """Draw an image with its objects into axes."""
    pixels = np.asarray(scene.image.convert("RGB")) / 255
    for number, mask in enumerate([] if scene.masks is None else scene.masks):
        colour = np.array(_COLOURS[number % len(_COLOURS)])
        pixels[mask] = (1 - _OPACITY) * pixels[mask] + _OPACITY * colour
    axes.imshow(pixels)
    # The first, of detections those with the highest scores, are on top.
    for number, (box, name) in reversed(list(enumerate(zip(scene.boxes, scene.names, strict=True)))):
        colour = _COLOURS[number % len(_COLOURS)]
        x0, y0, x1, y1 = box.tolist()
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.5))
        axes.text(x0, y0, name, fontsize=7, color="white", va="bottom", backgroundcolor=(*colour, 0.8))
