"""Pictures of robustness: corrupted, occluded and shuffled images, and curves of what a classifier still knows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from torch import Generator, Tensor

from hf_vits.analysis.robustness.corruptions import IMAGENET_C, corrupt

from .grid import ImageGrid, save_figure

_TITLE, _SIDE = 0.2, 1.0  # inches


def draw_images(rows: Mapping[str, Sequence[Tensor]], columns: Sequence[str], path: Path) -> None:
    """Draw images in named rows and columns.

    Args:
        rows: {title: an image (3, height, width) for each column}, uint8 or from 0 to 1.
        columns: titles above the first row.
        path: of the PNG to write.
    """
    grid = ImageGrid(_SIDE, _SIDE, [_TITLE, *[0.02] * (len(rows) - 1)], len(columns) + 1)
    for column, title in enumerate(columns, start=1):
        grid.add_title(0, column, title, fontsize=8)
    for row, (title, images) in enumerate(rows.items()):
        left, top = grid.corner(row, 0)
        grid.axes.text(left + _SIDE - 0.08, top + _SIDE / 2, title, ha="right", va="center", fontsize=7)
        for column, image in enumerate(images, start=1):
            fractions = image.float() / 255 if image.dtype == torch.uint8 else image.float()
            grid.add(row, column, fractions.clamp(0, 1).movedim(0, -1).cpu().numpy())
    save_figure(grid.figure, path)


def draw_corruptions(
    image: Tensor, path: Path, names: Sequence[str] = IMAGENET_C, generator: Generator | None = None
) -> None:
    """Draw an image under every corruption, a row each, at severities 1 to 5.

    Args:
        image: (3, height, width), uint8 or from 0 to 1.
        path: of the PNG to write.
    """
    rows = {
        name.replace("_", " "): [image, *(corrupt(image[None], name, level, generator)[0] for level in range(1, 6))]
        for name in names
    }
    draw_images(rows, ["clean", *(f"severity {level}" for level in range(1, 6))], path)


def draw_curves(
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    path: Path,
    lost: str = "fraction of the image removed",
    known: bool = True,
    logarithmic: bool = False,
) -> None:
    """Draw accuracy against the loss of information, a line for each model, and beside it the agreement
    with clean images.

    Args:
        curves: {model: what `analysis.robustness.scores.loss_curve` returns}.
        path: of the PNG to write.
        lost: what the levels are.
        known: whether the classes are known; otherwise only the agreement is drawn.
        logarithmic: whether the levels are powers of two.
    """
    measures = {"accuracy": "accuracy", "agreement_with_clean": "same class as for the clean image"}
    if not known:
        del measures["accuracy"]
    figure = Figure(figsize=(3.8 * len(measures), 3.4), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    palette = matplotlib.colormaps["tab10"].colors  # pyright: ignore[reportAttributeAccessIssue]
    for color, (name, curve) in zip(palette, curves.items(), strict=False):
        for axes, measure in zip(panels, measures, strict=True):
            axes.plot(curve["levels"], curve[measure], marker="o", markersize=3.5, color=color, label=name)
    for axes, title in zip(panels, measures.values(), strict=True):
        axes.set_title(title, fontsize=10)
        axes.set(xlabel=lost, ylim=(-0.03, 1.03))
        if logarithmic:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    save_figure(figure, path)


def draw_corruption_accuracy(
    accuracies: Mapping[str, Tensor],
    path: Path,
    names: Sequence[str] = IMAGENET_C,
    measure: str = "accuracy",
) -> None:
    """Draw the accuracy of models under each corruption: a bar for the mean, a dot for each severity.

    Args:
        accuracies: {model: (corruptions, severities)}, of `analysis.robustness.scores.corruption_accuracy`.
        path: of the PNG to write.
        names: of the corruptions, in order.
        measure: what the numbers are.
    """
    figure = Figure(figsize=(max(6, 0.5 * len(names) + 1.5), 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(accuracies)
    places = torch.arange(len(names))
    palette = matplotlib.colormaps["tab10"].colors  # pyright: ignore[reportAttributeAccessIssue]
    for index, (name, values) in enumerate(accuracies.items()):
        left = places + (index - (len(accuracies) - 1) / 2) * width
        axes.bar(left.numpy(), values.mean(1).numpy(), width, color=palette[index % 10], alpha=0.6, label=name)
        spots = left[:, None].expand_as(values)
        axes.scatter(spots.numpy(), values.numpy(), s=6, color=palette[index % 10], zorder=3)
    labels = [name.replace("_", " ") for name in names]
    axes.set_xticks(places.numpy(), labels, rotation=45, ha="right", fontsize=8)
    axes.set(ylabel=measure, ylim=(0, 1.03))
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(accuracies) > 1:
        figure.legend(loc="outside upper center", ncols=4, frameon=False)
    save_figure(figure, path)
