"""Classification of videos."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoVideoProcessor, PreTrainedModel

from hf_vits.data.label_groups import class_probabilities
from hf_vits.data.videos import VIDEOS as MEDIA
from hf_vits.figures.videos import WatchedVideo, draw_watched, shrink, to_pictures
from hf_vits.processing.decoding import VideoReader, probe
from hf_vits.processing.video import VitsVideoProcessor
from hf_vits.processing.windows import ClipWindow, slide, view
from hf_vits.training.examples.clips import check_processor

from ..models import load_with
from .windows import describe

CHECKED_FIRST = True
_MOST_DRAWN = 8
_DRAWN_CLASSES = 5
_DRAWN_FRAMES = 32
_IMAGES_PER_CLIP = 8  # a clip takes about the memory of so many images


def predict(args: argparse.Namespace, paths: list[Path]) -> list[dict[str, Any]]:
    """Return {file, predictions: [{label, score}, ...], windows: [{start, end, label, score}, ...]} per video.

    A video longer than a clip is classified in overlapping windows; its scores are the mean over the windows. For a
    model with several heads, predictions are combinations of their classes, and `heads` is added, see `describe`.
    """
    model, processor = load_with(AutoVideoProcessor, args.model)
    check_processor(processor)
    rows, drawn = [], []
    for path, windows, scores in classify(model, processor, paths, max(args.batch_size // _IMAGES_PER_CLIP, 1)):
        spans = [(window.start, window.end) for window in windows]
        rows.append({"file": str(path), **describe(model.config, scores, spans, args.top_k)})
        if args.figure and len(drawn) < _MOST_DRAWN:
            drawn.append(watched(model, processor, path, windows, scores))
    if args.figure:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        draw_watched(drawn, args.figure)
    return rows


def classify(
    model: PreTrainedModel, processor: VitsVideoProcessor, paths: list[Path], batch_size: int
) -> Iterator[tuple[Path, list[ClipWindow], torch.Tensor]]:
    """Yield each video with its windows and class probabilities (windows, classes); show a progress bar of windows."""
    plans = [(path, slide(probe(path), processor)) for path in paths]
    total = sum(len(windows) for _, windows in plans)
    with torch.inference_mode(), tqdm(total=total, desc="Classifying", unit="clip", disable=None) as bar:
        for path, windows in plans:
            bar.set_postfix_str(path.name)
            scores = []
            with VideoReader(path) as video:
                for start in range(0, len(windows), batch_size):
                    batch = windows[start : start + batch_size]
                    clips = torch.stack([view(processor, video, window.indices) for window in batch])
                    logits = model(pixel_values=clips.to(model.device, model.dtype)).logits
                    scores.append(class_probabilities(model.config, logits).cpu())
                    bar.update(len(batch))
            yield path, windows, torch.cat(scores)


def watched(
    model: PreTrainedModel, processor: VitsVideoProcessor, path: Path, windows: list[ClipWindow], scores: torch.Tensor
) -> WatchedVideo:
    """Return what to draw of a video: some of the frames that the model saw, and class probabilities over time."""
    seen = np.unique(np.concatenate([window.indices for window in windows]))
    shown = seen[np.linspace(0, len(seen) - 1, min(_DRAWN_FRAMES, len(seen))).round().astype(int)]
    with VideoReader(path) as video:
        frames, fps = to_pictures(view(processor, video, shown), processor), video.info.fps
    peaks = scores.max(dim=0).values.topk(min(_DRAWN_CLASSES, scores.shape[1])).indices
    return WatchedVideo(
        title=path.name,
        frames=shrink(frames),
        seconds=shown / fps,
        windows=np.array([(window.start, window.end) for window in windows]),
        class_names=[model.config.id2label[index] for index in peaks.tolist()],
        probabilities=scores[:, peaks].numpy(),
        measure="number" if model.config.problem_type == "regression" else "probability",
    )


__all__ = ["CHECKED_FIRST", "MEDIA", "predict"]
