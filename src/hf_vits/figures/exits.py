"""Picture of early exits: accuracy against the mean cost of an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .grid import save_figure

_DYNAMIC, _EXIT, _STATIC = "#4c72b0", "#dd8452", "#555555"

# Cost in multiply-adds, and accuracy.
Point = tuple[float, float]


def draw_exits(
    curve: Sequence[Point],
    exits: Sequence[Point],
    static: Mapping[str, Point],
    path: Path,
    chosen: Point | None = None,
) -> None:
    """Draw the curve of budgets, with the points of single exits and of other, static networks.

    Args:
        curve: of the thresholds of each budget.
        exits: where all images leave at the same exit, in order.
        static: {name: point} of networks without exits.
        chosen: of the thresholds that were chosen for a budget.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    unit, scale = ("G", 1e9) if max(cost for cost, _ in exits) >= 1e8 else ("M", 1e6)

    def plot(points, *style, **options):
        axes.plot([cost / scale for cost, _ in points], [accuracy for _, accuracy in points], *style, **options)

    plot(sorted(curve), "-", color=_DYNAMIC, linewidth=1.8, label="early exits, by confidence")
    plot(exits, "o", color=_EXIT, label="all images leave at one exit")
    for number, (cost, accuracy) in enumerate(exits, start=1):
        axes.annotate(f"exit {number}", (cost / scale, accuracy), textcoords="offset points", xytext=(6, -10))
    if static:
        plot(list(static.values()), "s", color=_STATIC, label="static networks")
    for name, (cost, accuracy) in static.items():
        axes.annotate(name, (cost / scale, accuracy), textcoords="offset points", xytext=(6, -10), color=_STATIC)
    if chosen is not None:
        plot([chosen], "*", color=_DYNAMIC, markersize=13, label="thresholds of the budget")
    axes.set(xlabel=f"mean multiply-adds of an image, {unit}", ylabel="accuracy")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12, y=0.12)
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    save_figure(figure, path)
