"""Classification of recordings."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from transformers import AutoFeatureExtractor, PreTrainedModel

from hf_vits.data.audio import AUDIO as MEDIA
from hf_vits.data.label_groups import class_probabilities
from hf_vits.processing.windows import Window, overlapping, window_length

from ..models import load_with
from .recordings import MOST_DRAWN, draw_recordings, run_windows
from .windows import describe, numbers_text

CHECKED_FIRST = True
_DRAWN_CLASSES = 4


def predict(args: argparse.Namespace, paths: list[Path]) -> list[dict[str, Any]]:
    """Return {file, predictions: [{label, score}, ...], windows: [{start, end, label, score}, ...]} per recording.

    Recordings longer than the window are classified window by window; their scores are the mean over the windows.
    """
    model, extractor = load_with(AutoFeatureExtractor, args.model)
    length = window_length(args.window, extractor)
    cut = partial(overlapping, length=length)
    rows, drawn = [], []
    for path, waveform, windows, logits in run_windows(model, extractor, paths, cut, args.batch_size, "Classifying"):
        scores = class_probabilities(model.config, torch.stack(logits))
        spans = [(one.first / extractor.sampling_rate, one.last / extractor.sampling_rate) for one in windows]
        rows.append({"file": str(path), **describe(model.config, scores, spans, args.top_k)})
        if args.figure and len(drawn) < MOST_DRAWN:
            drawn.append((waveform, windows, scores))
    if args.figure:
        draw(model, rows, drawn, extractor.sampling_rate, args.figure)
    return rows


def draw(
    model: PreTrainedModel,
    rows: list[dict[str, Any]],
    drawn: list[tuple[torch.Tensor, list[Window], torch.Tensor]],
    sampling_rate: int,
    figure: Path,
) -> None:
    """Draw spectrograms and, for recordings of several windows, the probabilities of the best classes over time."""

    def add(number: int, axes: Axes) -> None:
        _, windows, scores = drawn[number]
        if len(windows) < 2 or model.config.problem_type == "regression":
            return
        times = [(window.first + window.last) / 2 / sampling_rate for window in windows]
        right = axes.twinx()
        right.set(ylim=(0, 1), ylabel="probability")
        for index in scores.max(dim=0).values.topk(min(_DRAWN_CLASSES, scores.shape[1])).indices.tolist():
            right.plot(times, scores[:, index], marker=".", label=model.config.id2label[index])
        right.legend(fontsize=7, loc="upper right", ncols=_DRAWN_CLASSES)

    titles = [
        f"{Path(row['file']).name}: "
        + (
            numbers_text(row["numbers"])
            if "numbers" in row
            else ", ".join(f"{entry['label']} {entry['score']:.1%}" for entry in row["predictions"][:_DRAWN_CLASSES])
        )
        for row in rows[: len(drawn)]
    ]
    recordings = [(title, waveform) for title, (waveform, _, _) in zip(titles, drawn, strict=True)]
    draw_recordings(recordings, sampling_rate, add, figure)


__all__ = ["CHECKED_FIRST", "MEDIA", "predict"]
