"""The picture of a claim: every run as a point beside its side's mean, or curves over the steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .grid import save_figure

_COLORS = ("#4c72b0", "#dd8452", "#55a868", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974")


def draw_sides(values: Mapping[str, Sequence[float | None]], measure: str, path: Path) -> None:
    """Draw the number of each seed, joined over the sides, and each side's mean with its standard deviation.

    Args:
        values: {side: number of each seed, None where there is none}.
        measure: what the numbers are.
    """
    figure = Figure(figsize=(max(4.5, 1.5 * len(values)), 3.2), layout="constrained")
    axes = figure.subplots()
    rows = np.array([[np.nan if number is None else number for number in row] for row in values.values()])
    places = np.arange(len(values))
    axes.plot(places, rows, color="#b8c1cc", linewidth=0.8, zorder=1)
    for place, row in enumerate(rows):
        color, found = _COLORS[place % len(_COLORS)], row[np.isfinite(row)]
        axes.scatter(np.full(len(found), place), found, s=22, color=color, alpha=0.6, linewidths=0, zorder=2)
        if len(found) > 1:
            spread = {"yerr": found.std(ddof=1), "capsize": 5, "markersize": 18, "markeredgewidth": 2}
            axes.errorbar(place + 0.16, found.mean(), fmt="_", color=color, **spread)
    axes.set_xticks(places, list(values))
    axes.set(ylabel=measure, xlim=(-0.5, len(values) - 0.5))
    _tidy(axes)
    save_figure(figure, path)


def draw_curves_of_sides(curves: Mapping[str, Sequence[Sequence[Sequence[float]]]], measure: str, path: Path) -> None:
    """Draw a thin line for each seed and a thick one for the mean of each side.

    Args:
        curves: {side: for each seed [step, number] of its evaluations}.
    """
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, (side, rows) in enumerate(curves.items()):
        color = _COLORS[place % len(_COLORS)]
        lines = [np.array(row, dtype=float).T for row in rows if len(row)]
        for steps, numbers in lines:
            axes.plot(steps, numbers, color=color, alpha=0.35, linewidth=0.8)
        if lines:
            axes.plot(lines[0][0], np.mean([numbers for _, numbers in lines], axis=0), color=color, label=side)
    axes.set(xlabel="optimizer step", ylabel=measure)
    axes.legend(frameon=False)
    _tidy(axes)
    save_figure(figure, path)


def _tidy(axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
