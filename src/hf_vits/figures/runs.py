"""Figures of a finished run: curves, confusion matrix, predictions."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from .grid import ImageGrid, save_figure

_TRAIN, _EVALUATION = "#4c72b0", "#dd8452"
_RIGHT, _WRONG = "#2e7d32", "#c62828"
# With more classes the cells of a confusion matrix are too small for names and counts.
_MOST_NAMED_CLASSES = 25
_MOST_LABELS = 60
_MOST_TARGETS = 12
_GRID_WIDTH = 11.4  # inches
_LETTER_WIDTH, _LINE_HEIGHT = 0.085, 0.17  # inches, of the titles of predictions


@dataclass(frozen=True)
class Prediction:
    """An image with its class (None if unknown), the predicted class and its probability.

    Of a regression they are texts of numbers, without a probability.
    """

    image: Image.Image
    label: str | None
    predicted: str
    probability: float | None


def draw_curves(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw loss, validation accuracy, recall or error rates, and learning rate over the steps of a Trainer's log."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, measure, rate = figure.subplots(1, 3)
    _plot(loss, history, "loss", "training", _TRAIN)
    _plot(loss, history, "eval_loss", "validation", _EVALUATION)
    _plot(measure, history, "eval_accuracy", "top-1", _EVALUATION)
    _plot(measure, history, "eval_balanced_accuracy", "mean of classes", _EVALUATION, linestyle="--")
    _plot(measure, history, "eval_top5_accuracy", "top-5", _EVALUATION, linestyle=":")
    _plot(measure, history, "eval_knn_accuracy", "k-NN", _EVALUATION)
    _plot(measure, history, "eval_mAP", "mAP", _EVALUATION)
    _plot(measure, history, "eval_OF1", "overall F1", _EVALUATION, linestyle=":")
    _plot(measure, history, "eval_mean_iou", "mean IoU", _EVALUATION)
    _plot(measure, history, "eval_pixel_accuracy", "pixel accuracy", _EVALUATION, linestyle=":")
    _plot(measure, history, "eval_r2", "R2", _EVALUATION)
    _plot(measure, history, "eval_sound_recall", "sounds", _EVALUATION)
    _plot(measure, history, "eval_text_recall", "texts", _EVALUATION, linestyle=":")
    _plot(measure, history, "eval_word_error_rate", "words", _EVALUATION)
    _plot(measure, history, "eval_character_error_rate", "characters", _EVALUATION, linestyle=":")
    _plot(rate, history, "learning_rate", "learning rate", _TRAIN)
    names = {
        "eval_word_error_rate": "error rates",
        "eval_mAP": "mAP and F1",
        "eval_mean_iou": "IoU",
        "eval_mae": "R2",
        "eval_sound_recall": "recall",
    }
    measured = next((name for key, name in names.items() if any(key in entry for entry in history)), "accuracy")
    for axes, title in ((loss, "Loss"), (measure, f"Validation {measured}"), (rate, "Learning rate")):
        axes.set(title=title, xlabel="optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in (loss, measure):
        if axes.lines:
            axes.legend(frameon=False)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    save_figure(figure, path)


def _plot(axes, history: Sequence[dict[str, Any]], key: str, label: str, color: str, linestyle: str = "-") -> None:
    points = [(entry["step"], entry[key]) for entry in history if key in entry]
    if points:
        marker = "o" if len(points) < 40 and key.startswith("eval") else None
        axes.plot(
            *zip(*points, strict=True), label=label, color=color, linestyle=linestyle, marker=marker, markersize=3
        )


def draw_confusion(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, coloured by the fraction of each true class, with counts in the cells if there is room.

    Args:
        matrix: counts (true classes, predicted classes).
    """
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    named = len(class_names) <= _MOST_NAMED_CLASSES
    side = min(3 + 0.5 * len(class_names), 14) if named else 8
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="true class", title="Confusion matrix of the test split")
    figure.colorbar(shown, ax=axes, label="fraction of the true class", shrink=0.8)
    if named:
        slanted = {} if max(map(len, class_names)) < 4 else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(class_names)), class_names, **slanted)
        axes.set_yticks(range(len(class_names)), class_names)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "white" if fractions[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
    save_figure(figure, path)


def draw_precisions(rows: Sequence[dict[str, float]], class_names: Sequence[str], path: Path) -> None:
    """Draw the average precision of each class, best first, with its number of positives, for the first 60 classes.

    Args:
        rows: scores of each class, as `evaluation.multi_label.of_each_class` returns them.
    """
    found = [
        (row.get("average_precision", 0.0), name, row["positives"])
        for row, name in zip(rows, class_names, strict=True)
    ]
    found = sorted(found, reverse=True)[:_MOST_LABELS]
    figure = Figure(figsize=(7, 1.2 + 0.24 * len(found)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(found)), [precision for precision, _, _ in found], color=_TRAIN)
    axes.set_yticks(range(len(found)), [f"{name} ({positives})" for _, name, positives in found])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="average precision", title="Labels of the test split, with their positives")
    save_figure(figure, path)


def draw_numbers(numbers: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Draw the predictions of a regression over the true numbers, a plot for each of the first 12 targets.

    Both axes have the same range, so that the grey diagonal, on which predictions are right, crosses the whole plot.

    Args:
        numbers: predictions and targets (2, inputs, targets).
    """
    names = names[:_MOST_TARGETS]
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.6 * rows), layout="constrained")
    plots = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in plots[len(names) :]:
        axes.remove()
    for axes, name, (predicted, true) in zip(plots, names, numbers.transpose(2, 0, 1), strict=False):
        axes.scatter(true, predicted, s=10, alpha=0.6, color=_TRAIN, linewidths=0)
        limits = min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])
        axes.plot(limits, limits, color="grey", linewidth=0.8, zorder=0)
        axes.set(title=name, xlabel="true", ylabel="predicted", xlim=limits, ylim=limits)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def draw_predictions(predictions: Sequence[Prediction], path: Path, columns: int = 6) -> None:
    """Draw a grid of images titled by predicted class and probability, green if right, else red and corrected."""
    width = _GRID_WIDTH / columns
    height = width * min(max(prediction.image.height / prediction.image.width for prediction in predictions), 1)
    titles = [_title(prediction, round(width / _LETTER_WIDTH)) for prediction in predictions]
    lines = max(title.count("\n") + 1 for title, _ in titles)
    grid = ImageGrid(width, height, [lines * _LINE_HEIGHT] * -(-len(predictions) // columns), columns)
    for place, (prediction, (title, color)) in enumerate(zip(predictions, titles, strict=True)):
        cmap = "gray" if prediction.image.mode == "L" else None
        grid.add(*divmod(place, columns), np.asarray(prediction.image), cmap=cmap)
        grid.add_title(*divmod(place, columns), title, color=color, fontsize=10)
    save_figure(grid.figure, path)


def _title(prediction: Prediction, width: int) -> tuple[str, str]:
    """Return the title of a prediction, in lines of at most `width` letters, and its colour."""
    if prediction.probability is None:
        true = [] if prediction.label is None else textwrap.wrap(f"is {prediction.label}", width)
        return "\n".join(textwrap.wrap(prediction.predicted, width) + true), "black"
    lines = textwrap.wrap(f"{prediction.predicted} ({prediction.probability:.0%})", width)
    if prediction.label is None:
        return "\n".join(lines), "black"
    if prediction.label == prediction.predicted:
        return "\n".join(lines), _RIGHT
    return "\n".join(lines + textwrap.wrap(f"is {prediction.label}", width)), _WRONG
