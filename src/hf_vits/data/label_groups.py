"""Inputs with several labels, such as the noun and the verb of an action: the classifier has one head per label.

The classes of all heads form one list, head after head. Each class is named after the column of its labels and its
own name, such as "noun: cup" and "verb: wash". The labels of an input are one index into this list per head.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedConfig

from hf_vits.layers.label_heads import joint_scores, log_probabilities

_SEPARATOR = ": "


def class_names_of(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the class names of all heads as one list.

    Args:
        columns: {column of labels: names of its classes}.
    """
    return [f"{column}{_SEPARATOR}{name}" for column, names in columns.items() for name in names]


def heads_of(config: PreTrainedConfig) -> dict[str, int]:
    """Return {name of head: number of classes} of a model with several heads; empty for a model with one.

    A head is named after its column of labels, or head1, head2, ... where its class names contain no common column.
    """
    sizes = getattr(config, "head_sizes", None) or ()
    found = {}
    for number, (start, size) in enumerate(zip(first_classes(sizes), sizes, strict=True), start=1):
        columns = {config.id2label[index].partition(_SEPARATOR)[0] for index in range(start, start + size)}
        found[columns.pop() if len(columns) == 1 else f"head{number}"] = size
    return found


def first_classes(head_sizes: Sequence[int]) -> list[int]:
    """Return the index of each head's first class in the list of all classes."""
    return [sum(head_sizes[:number]) for number in range(len(head_sizes))]


def combined(labels: np.ndarray, head_sizes: Sequence[int]) -> np.ndarray:
    """Return labels (inputs, heads) as indices (inputs,) of combinations of one class per head.

    The combinations are in the order of `layers.label_heads.joint_scores`.
    """
    within_heads = labels - np.array(first_classes(head_sizes))
    return np.asarray(np.ravel_multi_index(tuple(within_heads.T), tuple(head_sizes)))


def taken_apart(combinations: np.ndarray, head_sizes: Sequence[int]) -> np.ndarray:
    """Return indices (inputs,) of combinations as labels (inputs, heads), the inverse of `combined`."""
    within_heads = np.stack(np.unravel_index(combinations, tuple(head_sizes)), axis=-1)
    return within_heads + np.array(first_classes(head_sizes))


def class_probabilities(config: PreTrainedConfig, logits: Tensor) -> Tensor:
    """Return the probabilities (..., classes) of logits (..., classes).

    Those of each head sum up to one, unless several classes of an input may be true. The outputs of a regression are
    numbers, and returned as they are.
    """
    if config.problem_type == "regression":
        return logits.float()
    if config.problem_type == "multi_label_classification":
        return logits.float().sigmoid()
    return log_probabilities(logits.float(), getattr(config, "head_sizes", None)).exp()


def most_probable(config: PreTrainedConfig, probabilities: Tensor, count: int) -> list[dict[str, Any]]:
    """Return {label, score} of the most probable classes, or combinations of one class per head.

    Args:
        probabilities: (classes,), as `class_probabilities` returns them.
        count: number of classes or combinations.
    """
    sizes = getattr(config, "head_sizes", None)
    scores = probabilities if sizes is None else joint_scores(probabilities.log()[None], sizes)[0]
    best, found = scores.topk(min(count, len(scores)))
    rows = found[:, None].tolist() if sizes is None else taken_apart(found.cpu().numpy(), sizes).tolist()
    return [
        {"label": ", ".join(config.id2label[index] for index in row), "score": score}
        for row, score in zip(rows, best.tolist(), strict=True)
    ]


def predicted_labels(config: PreTrainedConfig, probabilities: Tensor) -> list[str] | None:
    """Return the labels whose probability reaches their threshold; None for a model that predicts one class.

    The thresholds are `config.label_thresholds`, 0.5 where there are none.

    Args:
        probabilities: (classes,), as `class_probabilities` returns them.
    """
    if config.problem_type != "multi_label_classification":
        return None
    thresholds = getattr(config, "label_thresholds", None) or [0.5] * len(probabilities)
    pairs = zip(probabilities.tolist(), thresholds, strict=True)
    return [config.id2label[index] for index, (score, least) in enumerate(pairs) if score >= least]


def most_probable_of_heads(
    config: PreTrainedConfig, probabilities: Tensor, count: int
) -> dict[str, list[dict[str, Any]]]:
    """Return {name of head: its most probable classes}, with arguments and entries as of `most_probable`."""
    heads, found = heads_of(config), {}
    for (name, size), start in zip(heads.items(), first_classes(list(heads.values())), strict=True):
        best, classes = probabilities[start : start + size].topk(min(count, size))
        ranked = zip(classes.tolist(), best.tolist(), strict=True)
        found[name] = [{"label": config.id2label[start + index], "score": score} for index, score in ranked]
    return found
