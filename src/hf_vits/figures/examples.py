"""A page of the examples that a model is trained on, augmented and mixed as it sees them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .features import denormalized
from .grid import ImageGrid, save_figure
from .segments import overlay

_SIDE = 1.6  # inches of an image
_MOST_ROWS, _COLUMNS = 4, 8
_MOST_CURVES = 12


def draw_examples(batch: Mapping[str, Any], processor, path: Path) -> str | None:
    """Draw the inputs of a training batch and return their name in the batch; None if they cannot be drawn.

    Images are drawn in a grid, with the mask over each that has one, the views of an image or the frames of a clip in
    a row each, spectrograms as images (low frequencies below), waveforms as curves.
    """
    if isinstance(batch.get("pixel_values"), Tensor):
        labels = batch.get("labels")
        masks = labels if isinstance(labels, Tensor) and labels.ndim == 3 and not labels.is_floating_point() else None
        _draw_images(batch["pixel_values"], getattr(processor, "video_processor", processor), path, masks)
        return "pixel_values"
    for name in ("input_features", "input_values"):
        if isinstance(batch.get(name), Tensor):
            _draw_sounds(batch[name].float().cpu(), path)
            return name
    return None


def _draw_images(pixel_values: Tensor, processor, path: Path, masks: Tensor | None = None) -> None:
    if pixel_values.ndim == 5:  # views or frames
        rows = pixel_values[:_MOST_ROWS]
        shown = torch.linspace(0, rows.shape[1] - 1, min(rows.shape[1], _COLUMNS)).round().long()
        rows = rows[:, shown]
    else:
        columns = min(len(pixel_values), _COLUMNS)
        count = min(-(-len(pixel_values) // columns), _MOST_ROWS)
        pixel_values = pixel_values[: count * columns]
        rows = pixel_values.split(columns)
    grid = ImageGrid(_SIDE, _SIDE * pixel_values.shape[-2] / pixel_values.shape[-1], [0.0] * len(rows), len(rows[0]))
    for row, images in enumerate(rows):
        for column, image in enumerate(denormalized(images, processor)):
            if masks is not None:
                image = overlay(image, masks[row * len(rows[0]) + column].cpu().numpy())
            grid.add(row, column, image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=1)
    save_figure(grid.figure, path)


def _draw_sounds(inputs: Tensor, path: Path) -> None:
    inputs = inputs[:_MOST_CURVES]
    figure = Figure(figsize=(10, 1.1 * len(inputs)), layout="constrained")
    for axes, values in zip(figure.subplots(len(inputs), 1, squeeze=False)[:, 0], inputs, strict=True):
        if values.ndim == 1:
            axes.plot(values.numpy(), linewidth=0.5)
            axes.margins(x=0)
        else:  # (frames, bins)
            axes.imshow(np.flipud(values.reshape(-1, values.shape[-1]).T.numpy()), aspect="auto", cmap="magma")
        axes.set(xticks=[], yticks=[])
    save_figure(figure, path)


def draw_rates(rates: list[float], losses: list[float], chosen: float, path: Path) -> None:
    """Draw the smoothed loss over the learning rate, and the learning rate that is suggested."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="#4c72b0")
    axes.axvline(chosen, color="#c62828", linestyle="--", label=f"suggested: {chosen:.1e}")
    spread = max(losses[0] - min(losses), 1e-6)
    axes.set_ylim(min(losses) - 0.1 * spread, losses[0] + 0.5 * spread)  # what rises beyond is of no use
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    save_figure(figure, path)
