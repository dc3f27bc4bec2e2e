"""The report of predictions for an input, and for the windows of a long one."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedConfig

from hf_vits.data.label_groups import most_probable, most_probable_of_heads, predicted_labels
from hf_vits.data.targets import named_numbers


def outcome(config: PreTrainedConfig, scores: torch.Tensor, top_k: int) -> dict[str, Any]:
    """Return predictions and labels, or numbers, of an input, as `describe` returns them.

    Args:
        scores: probabilities of the classes (classes,), or numbers (targets,).
    """
    if config.problem_type == "regression":
        return {"numbers": named_numbers(config, scores.tolist())}
    labels = predicted_labels(config, scores)
    found = {"predictions": most_probable(config, scores, top_k)}
    return found if labels is None else found | {"labels": labels}


def numbers_text(numbers: dict[str, float]) -> str:
    """Return named numbers as a text."""
    return ", ".join(f"{name} {value:.5g}" for name, value in numbers.items())


def title_of(row: dict[str, Any]) -> tuple[str, float | None]:
    """Return the most probable class of an input with its score, or its numbers as a text with None."""
    if "numbers" in row:
        return numbers_text(row["numbers"]), None
    return row["predictions"][0]["label"], row["predictions"][0]["score"]


def describe(
    config: PreTrainedConfig, scores: torch.Tensor, spans: Sequence[tuple[float, float]], top_k: int
) -> dict[str, Any]:
    """Return the JSON-serialisable predictions for an input.

    Args:
        config: configuration of the model.
        scores: probabilities (windows, classes), or numbers (windows, targets).
        spans: start and end of each window, in seconds.

    Returns:
        predictions: [{label, score}, ...], the best classes of the mean over the windows; for a model with several
            heads, combinations of their classes.
        labels: those whose score reaches their threshold, where several may be true.
        heads: {name: [{label, score}, ...]}, for a model with several heads.
        windows: [{start, end, label, score}, ...], the best class of each window, if there are several.
        numbers: {target: number}, of a regression, in place of predictions; each window has `numbers`, too.
    """
    mean = scores.mean(dim=0)
    described = outcome(config, mean, top_k)
    if "numbers" in described:
        if len(spans) > 1:
            described["windows"] = [
                {"start": start, "end": end, **outcome(config, window, top_k)}
                for (start, end), window in zip(spans, scores, strict=True)
            ]
        return described
    if heads := most_probable_of_heads(config, mean, top_k):
        described["heads"] = heads
    if len(spans) > 1:
        described["windows"] = [
            {"start": start, "end": end, **most_probable(config, window, 1)[0]}
            for (start, end), window in zip(spans, scores, strict=True)
        ]
    return described
