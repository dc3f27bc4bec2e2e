"""Figures of a stream of tasks: accuracies on every task after each was learned."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .grid import save_figure

_MOST_NUMBERED = 12  # tasks, so that numbers fit into cells
_TITLES = {"aware": "Task known", "agnostic": "Task unknown"}


def draw_accuracy_matrix(accuracy: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw matrices of accuracy: a row after each learned task, a column for each task, in percent.

    Args:
        accuracy: {"aware", "agnostic": (tasks, tasks)}; cells of tasks that were not yet learned are left out.
    """
    count = len(next(iter(accuracy.values())))
    side = min(1.8 + 0.55 * count, 8)
    figure = Figure(figsize=(side * len(accuracy) + 1, side + 0.3), layout="constrained")
    axes = figure.subplots(1, len(accuracy), squeeze=False)[0]
    for axis, (kind, matrix) in zip(axes, accuracy.items(), strict=True):
        shown = axis.imshow(np.ma.masked_where(np.triu(np.ones_like(matrix), 1) > 0, matrix), vmin=0, vmax=1)
        axis.set(title=_TITLES[kind], xlabel="measured on task", ylabel="after task")
        axis.set_xticks(range(count), range(1, count + 1))
        axis.set_yticks(range(count), range(1, count + 1))
        if count <= _MOST_NUMBERED:
            for (row, column), value in np.ndenumerate(matrix):
                if column <= row:
                    color = "black" if value > 0.6 else "white"
                    axis.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=color, fontsize=9)
    figure.colorbar(shown, ax=list(axes), label="accuracy", shrink=0.8)
    save_figure(figure, path)


def draw_forgetting(accuracy: np.ndarray, path: Path) -> None:
    """Draw a curve for each task, its accuracy from when it was learned on, and their mean so far.

    Args:
        accuracy: task-agnostic (tasks, tasks).
    """
    count = len(accuracy)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for task in range(count):
        color = colormaps["viridis"](task / max(count - 1, 1) * 0.9)
        learned = np.arange(task, count)
        axes.plot(
            learned + 1, accuracy[learned, task], color=color, marker="o", markersize=4, label=f"task {task + 1}"
        )
    means = [accuracy[row, : row + 1].mean() for row in range(count)]
    axes.plot(np.arange(1, count + 1), means, color="black", linestyle="--", linewidth=2, label="mean so far")
    axes.set(
        title="Accuracy on each task, task unknown", xlabel="tasks learned", ylabel="accuracy", ylim=(-0.03, 1.03)
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if count <= _MOST_NUMBERED:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)
