"""Pictures of `hf-vits inspect`: attention by head and over images, components, correspondences, neurons, curves.

Images are tensors (channels, height, width) from 0 to 1; each function writes a PNG to `path`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from hf_vits.analysis.attention import OffsetHead

from .grid import ImageGrid, save_figure

_SIDE, _LARGE, _TITLE = 0.85, 1.5, 0.2  # inches
_MARK = "#d62728"


def shown(image: Tensor) -> np.ndarray:
    """Return an image (channels, height, width) as an array (height, width, 3)."""
    image = image.float().cpu().clamp(0, 1)
    return (image.expand(3, -1, -1) if len(image) == 1 else image).permute(1, 2, 0).numpy()


def aspect(image: Tensor) -> float:
    """Return the height of an image over its width."""
    return image.shape[-2] / image.shape[-1]


def draw_heads(maps: Tensor, path: Path, marked: Sequence[OffsetHead] = ()) -> None:
    """Draw a map for each head, a row for each block; marked heads get a red frame.

    Args:
        maps: (blocks, heads, rows, columns).
    """
    blocks, heads = maps.shape[:2]
    height = _SIDE * maps.shape[2] / maps.shape[3]
    grid = ImageGrid(_SIDE, height, [_TITLE, *[0.0] * (blocks - 1)], heads + 1)
    frames = {(head.layer, head.head) for head in marked}
    for head in range(heads):
        grid.add_title(0, head + 1, f"head {head + 1}", fontsize=7)
    for block in range(blocks):
        label_row(grid, block, f"block {block + 1}", height)
        for head in range(heads):
            grid.add(block, head + 1, maps[block, head].float().cpu().numpy(), cmap="viridis")
            if (block, head) in frames:
                left, top = grid.corner(block, head + 1)
                box = Rectangle((left, top), _SIDE, height, fill=False, edgecolor=_MARK, linewidth=2.5)
                grid.axes.add_patch(box)
    save_figure(grid.figure, path)


def draw_overlays(images: Sequence[Tensor], maps: Tensor, titles: Sequence[str], path: Path) -> None:
    """Draw images, a row each, beside maps that lie over them.

    Args:
        maps: (images, maps, rows, columns), each scaled to its own range.
        titles: of the maps.
    """
    height = _LARGE * aspect(images[0])
    grid = ImageGrid(_LARGE, height, [_TITLE, *[0.0] * (len(images) - 1)], len(titles) + 1)
    for column, title in enumerate(("image", *titles)):
        grid.add_title(0, column, title, fontsize=8)
    for row, image in enumerate(images):
        array = shown(image)
        grid.add(row, 0, array)
        for column, values in enumerate(maps[row], start=1):
            grid.add(row, column, 0.5 + 0.5 * array.mean(axis=-1, keepdims=True).repeat(3, axis=-1))
            grid.add(row, column, stretched(values, array.shape[:2]), cmap="magma", alpha=0.72, vmin=0, vmax=1)
    save_figure(grid.figure, path)


def stretched(values: Tensor, size: Sequence[int]) -> np.ndarray:
    """Return a map (rows, columns) scaled to 0 to 1 and bilinearly to (height, width)."""
    values = values.float().cpu()
    values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
    large = torch.nn.functional.interpolate(values[None, None], size=tuple(size), mode="bilinear", align_corners=False)
    return large[0, 0].numpy()


def draw_beside(images: Sequence[Tensor], columns: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Draw images, a row each, beside columns of arrays (height, width, 3) of any size."""
    height = _LARGE * aspect(images[0])
    grid = ImageGrid(_LARGE, height, [_TITLE, *[0.0] * (len(images) - 1)], len(columns) + 1)
    for column, (title, arrays) in enumerate({"image": [shown(image) for image in images], **columns}.items()):
        grid.add_title(0, column, title, fontsize=8)
        for row, array in enumerate(arrays):
            grid.add(row, column, array, interpolation="nearest")
    save_figure(grid.figure, path)


def draw_row(images: Sequence[Tensor], titles: Sequence[str], path: Path) -> None:
    """Draw images side by side under their titles."""
    grid = ImageGrid(_LARGE, _LARGE * aspect(images[0]), [_TITLE], len(images))
    for column, (image, title) in enumerate(zip(images, titles, strict=True)):
        grid.add_title(0, column, title, fontsize=8)
        grid.add(0, column, shown(image))
    save_figure(grid.figure, path)


def draw_correspondences(images: tuple[Tensor, Tensor], first: np.ndarray, second: np.ndarray, path: Path) -> None:
    """Draw two images side by side with numbered points that correspond.

    Args:
        first, second: y and x of each point, as fractions of the images' height and width, (points, 2).
    """
    height = 3 * aspect(images[0])
    grid = ImageGrid(3, height, [0.0], 2)
    for column, image in enumerate(images):
        grid.add(0, column, shown(image))
    for color, one, other in zip(palette(len(first)), first, second, strict=True):
        ends = []
        for column, (y, x) in enumerate((one, other)):
            left, top = grid.corner(0, column)
            ends.append((left + 3 * x, top + height * y))
        grid.axes.plot(*zip(*ends, strict=True), color=color, linewidth=1.2, alpha=0.9)
        for x, y in ends:
            grid.axes.plot(x, y, "o", color=color, markersize=7, markeredgecolor="white")
    save_figure(grid.figure, path)


def draw_neurons(rows: Mapping[str, Sequence[Tensor]], path: Path) -> None:
    """Draw for each neuron the image made for it, and images of the folder that activate it most.

    Args:
        rows: {name of the neuron: the made image, then those of the folder}.
    """
    images = next(iter(rows.values()))
    height = 1.2 * aspect(images[0])
    grid = ImageGrid(1.2, height, [_TITLE, *[0.0] * (len(rows) - 1)], len(images) + 1)
    titles = ["made for it", "strongest", *(f"number {place}" for place in range(2, len(images)))]
    for column, title in enumerate(titles, start=1):
        grid.add_title(0, column, title, fontsize=8)
    for row, (name, pictures) in enumerate(rows.items()):
        label_row(grid, row, name, height)
        for column, image in enumerate(pictures, start=1):
            grid.add(row, column, shown(image))
    save_figure(grid.figure, path)


def label_row(grid: ImageGrid, row: int, text: str, height: float) -> None:
    """Write a label in the first column of a row."""
    left, top = grid.corner(row, 0)
    grid.axes.text(left + grid.width - 0.06, top + height / 2, text, ha="right", va="center", fontsize=7)


def draw_lines(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    path: Path,
    xlabel: str,
    ylabel: str,
    limits: tuple[float, float] | None = None,
    level: float | None = None,
) -> None:
    """Draw lines {name: (x, y)}.

    Args:
        limits: of the y axis; None from the values.
        level: of a dashed line across.
    """
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for color, (name, (x, y)) in zip(palette(len(lines)), lines.items(), strict=True):
        axes.plot(x, y, marker="o", markersize=4, color=color, label=name)
    if level is not None:
        axes.axhline(level, color="gray", linewidth=0.8, linestyle="--")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if limits:
        axes.set_ylim(*limits)
    plain(axes)
    axes.legend(frameon=False)
    save_figure(figure, path)


def plain(axes: Axes) -> None:
    """Draw a light grid, no frame above and to the right, and whole numbers along x."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def palette(count: int) -> list:
    """Return colours that differ, up to ten of them; then they repeat."""
    colors = matplotlib.colormaps["tab10"].colors  # pyright: ignore[reportAttributeAccessIssue]
    return [colors[index % len(colors)] for index in range(count)]
