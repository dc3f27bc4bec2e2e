"""Several labels of an input, such as the noun and the verb of an action: a head of the classifier for each.

The classes of all heads stand one head after the other, named after the column that they come from: "noun: cup",
"verb: wash". The labels of an input are positions among all of these classes, one for each head.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedConfig

from hf_vits.layers.label_heads import joint_scores, log_probabilities

_SEPARATOR = ": "


def class_names_of(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of the classes of all heads, of {column: names of its classes}."""
    return [f"{column}{_SEPARATOR}{name}" for column, names in columns.items() for name in names]


def heads_of(config: PreTrainedConfig) -> dict[str, int]:
    """{name: how many classes} of the heads of a model; none of a model that has but one.

    They are numbered where the names of their classes do not tell the column.
    """
    sizes = getattr(config, "head_sizes", None) or ()
    found = {}
    for number, (start, size) in enumerate(zip(first_classes(sizes), sizes, strict=True), start=1):
        columns = {config.id2label[index].partition(_SEPARATOR)[0] for index in range(start, start + size)}
        found[columns.pop() if len(columns) == 1 else f"head{number}"] = size
    return found


def first_classes(head_sizes: Sequence[int]) -> list[int]:
    """Position of each head's first class."""
    return [sum(head_sizes[:number]) for number in range(len(head_sizes))]


def combined(labels: np.ndarray, head_sizes: Sequence[int]) -> np.ndarray:
    """Labels (inputs, heads) as positions (inputs,) among the combinations of `layers.label_heads.joint_scores`."""
    within_heads = labels - np.array(first_classes(head_sizes))
    return np.asarray(np.ravel_multi_index(tuple(within_heads.T), tuple(head_sizes)))


def taken_apart(combinations: np.ndarray, head_sizes: Sequence[int]) -> np.ndarray:
    """The reverse of `combined`."""
    within_heads = np.stack(np.unravel_index(combinations, tuple(head_sizes)), axis=-1)
    return within_heads + np.array(first_classes(head_sizes))


def class_probabilities(config: PreTrainedConfig, logits: Tensor) -> Tensor:
    """(..., classes) of logits (..., classes); of each head they sum up to one."""
    return log_probabilities(logits.float(), getattr(config, "head_sizes", None)).exp()


def most_probable(config: PreTrainedConfig, probabilities: Tensor, count: int) -> list[dict[str, Any]]:
    """{label, score} of so many classes, or combinations of one class of each head, of probabilities (classes,)."""
    sizes = getattr(config, "head_sizes", None)
    scores = probabilities if sizes is None else joint_scores(probabilities.log()[None], sizes)[0]
    best, found = scores.topk(min(count, len(scores)))
    rows = found[:, None].tolist() if sizes is None else taken_apart(found.cpu().numpy(), sizes).tolist()
    return [
        {"label": ", ".join(config.id2label[index] for index in row), "score": score}
        for row, score in zip(rows, best.tolist(), strict=True)
    ]


def most_probable_of_heads(
    config: PreTrainedConfig, probabilities: Tensor, count: int
) -> dict[str, list[dict[str, Any]]]:
    """{name of a head: its most probable classes as `most_probable` has them} of probabilities (classes,)."""
    heads, found = heads_of(config), {}
    for (name, size), start in zip(heads.items(), first_classes(list(heads.values())), strict=True):
        best, classes = probabilities[start : start + size].topk(min(count, size))
        ranked = zip(classes.tolist(), best.tolist(), strict=True)
        found[name] = [{"label": config.id2label[start + index], "score": score} for index, score in ranked]
    return found
