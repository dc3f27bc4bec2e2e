"""What predictions over time share: windows that slide over an input, and what is told of their classes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig

from hf_vits.data.label_groups import most_probable, most_probable_of_heads


def window_starts(total: int, length: int) -> list[int]:
    """Starts of windows of one length, each half over the next at most, that reach from 0 to `total`."""
    room = max(total - length, 0)
    return np.linspace(0, room, 1 + math.ceil(room / (length / 2))).round().astype(int).tolist()


def describe(
    config: PreTrainedConfig, scores: torch.Tensor, spans: Sequence[tuple[float, float]], top_k: int
) -> dict[str, Any]:
    """What JSON says of an input.

    Args:
        config: of the model.
        scores: probabilities (windows, classes).
        spans: start and end of each window, in seconds.

    Returns:
        predictions: [{label, score}, ...], the best classes of the windows' mean, or combinations of heads' classes.
        heads: of a model with several {name: [{label, score}, ...]}.
        windows: of several windows [{start, end, label, score}, ...], the best class of each.
    """
    mean = scores.mean(dim=0)
    described: dict[str, Any] = {"predictions": most_probable(config, mean, top_k)}
    if heads := most_probable_of_heads(config, mean, top_k):
        described["heads"] = heads
    if len(spans) > 1:
        described["windows"] = [
            {"start": start, "end": end, **most_probable(config, window, 1)[0]}
            for (start, end), window in zip(spans, scores, strict=True)
        ]
    return described
