"""The report of predictions for an input, and for the windows of a long one."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedConfig

from hf_vits.data.label_groups import most_probable, most_probable_of_heads, predicted_labels


def describe(
    config: PreTrainedConfig, scores: torch.Tensor, spans: Sequence[tuple[float, float]], top_k: int
) -> dict[str, Any]:
    """Return the JSON-serialisable predictions for an input.

    Args:
        config: configuration of the model.
        scores: probabilities (windows, classes).
        spans: start and end of each window, in seconds.

    Returns:
        predictions: [{label, score}, ...], the best classes of the mean over the windows; for a model with several
            heads, combinations of their classes.
        labels: those whose score reaches their threshold, where several may be true.
        heads: {name: [{label, score}, ...]}, for a model with several heads.
        windows: [{start, end, label, score}, ...], the best class of each window, if there are several.
    """
    mean = scores.mean(dim=0)
    described: dict[str, Any] = {"predictions": most_probable(config, mean, top_k)}
    if (labels := predicted_labels(config, mean)) is not None:
        described["labels"] = labels
    if heads := most_probable_of_heads(config, mean, top_k):
        described["heads"] = heads
    if len(spans) > 1:
        described["windows"] = [
            {"start": start, "end": end, **most_probable(config, window, 1)[0]}
            for (start, end), window in zip(spans, scores, strict=True)
        ]
    return described
