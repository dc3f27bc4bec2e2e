"""Scores of a video averaged over several clips and crops, as papers report them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch

from ..layers.label_heads import log_probabilities

AVERAGES = ("probabilities", "logits")


def usual_average(processor: Any, config: Any) -> str:
    """Return what the original of a processor's convention averages: SlowFast probabilities, Scenic logits.

    The outputs of a regression are averaged as they are.
    """
    is_regression = config.problem_type == "regression"
    return "logits" if is_regression or processor.convention == "scenic" else "probabilities"


def average_views(
    logits: Sequence[torch.Tensor], average: str, head_sizes: Sequence[int] | None = None
) -> torch.Tensor:
    """Return the mean of logits (..., classes) over views, or the logarithm of the mean of probabilities.

    Args:
        logits: the logits of each view.
        average: one of `AVERAGES`.
        head_sizes: number of classes of each head; None for one head.
    """
    views = torch.stack([view.float() for view in logits])
    if average == "logits":
        return views.mean(dim=0)
    return log_probabilities(views, head_sizes).logsumexp(dim=0) - math.log(len(views))


@torch.no_grad()
def score_views(
    model: Any,
    processor: Any,
    video: Any,
    num_clips: int | None = None,
    num_crops: int | None = None,
    average: str | None = None,
    batch_size: int = 4,
    **kwargs: Any,
) -> torch.Tensor:
    """Classify a video by all its views.

    Papers test MViT on Kinetics with 5 clips of 1 crop (L at 312 pixels: 3 crops), on Something-Something with 1 clip
    of 3 crops, and ViViT with 4 clips of 3 crops.

    Args:
        model: a model of videos with `logits` in its output, in eval mode.
        processor: a `VitsVideoProcessor`.
        video: one video in any form that the processor takes. One clip of it is in memory at a time.
        num_clips, num_crops: number of views; by default the processor's.
        average: "probabilities" or "logits"; by default `usual_average`.
        batch_size: number of views in a forward pass.
        kwargs: arguments of the processor, such as `video_metadata`.

    Returns:
        The average, float32 of shape (num_labels,), on the model's device.

    Raises:
        ValueError: `average` or `batch_size` is invalid; also the errors of the processor.
    """
    if average is None:
        average = usual_average(processor, model.config)
    if average not in AVERAGES:
        raise ValueError(f"average must be {' or '.join(AVERAGES)}, got {average!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be above 0, got {batch_size}")
    total: Any = 0.0
    num_views, head_sizes = 0, getattr(model.config, "head_sizes", None)
    for views in batches(processor.views(video, num_clips=num_clips, num_crops=num_crops, **kwargs), batch_size):
        scores = model(pixel_values=torch.stack(views).to(model.device, model.dtype)).logits.float()
        if average == "probabilities":
            scores = log_probabilities(scores, head_sizes).exp()
        total, num_views = total + scores.sum(dim=0), num_views + len(views)
    return total / num_views


def batches(items: Iterable, size: int) -> Iterator[list]:
    """Yield lists of `size` items; the last one has the rest."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
