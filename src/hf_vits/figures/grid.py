"""Figures of images in rows and columns, and how figures are written."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

_DPI = 110
_GAP = 0.06  # inches between images, and around them


class ImageGrid:
    """A figure of images in rows and columns, all on the same axes, whose unit is an inch.

    Axes of their own for each image would take ten times as long to draw.

    Args:
        width, height: inches for an image, which fills as much of them as its shape allows.
        titles: inches for the titles above each row of images.
        columns: how many images there are in a row.
    """

    def __init__(self, width: float, height: float, titles: list[float], columns: int):
        self.width, self.height = width, height
        heights = [_GAP + title + height for title in titles]
        self.bottoms = np.cumsum(heights)
        full_width, full_height = columns * (width + _GAP) + _GAP, sum(heights) + _GAP
        self.figure = Figure(figsize=(full_width, full_height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.axis("off")
        self.axes.set(xlim=(0, full_width), ylim=(full_height, 0))

    def add(self, row: int, column: int, image: np.ndarray, **options) -> None:
        """Draw an image (height, width[, channels]) below its title; options are those of `Axes.imshow`."""
        left, top = self.corner(row, column)
        height, width = image.shape[:2]
        scale = min(self.width / width, self.height / height)
        width, height = scale * width, scale * height
        left += (self.width - width) / 2
        self.axes.imshow(image, extent=(left, left + width, top + height, top), aspect="auto", **options)

    def add_title(self, row: int, column: int, title: str, **options) -> None:
        """Write above an image; options are those of `Axes.text`."""
        left, top = self.corner(row, column)
        self.axes.text(left + self.width / 2, top - _GAP / 2, title, ha="center", va="bottom", **options)

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Return the left and the upper end of an image in inches."""
        return _GAP + column * (self.width + _GAP), self.bottoms[row] - self.height


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    partial = path.with_suffix(".partial.png")
    # With its format, since Pillow 13 saves all files as SPIDER once a SPIDER image had their ending.
    figure_image(figure).save(partial, format="PNG")
    partial.replace(path)


def figure_image(figure: Figure) -> Image.Image:
    """Return a figure as an image."""
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # once; `Figure.savefig` draws twice
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
