"""Sizes of a model, read from the names and shapes of its checkpoint's tensors.

A size that cannot be read is None: loading then reports the keys that do not fit.
"""

import re
from collections.abc import Mapping

import torch


def size(tensors: Mapping[str, torch.Tensor], key: str, axis: int = 0, num_axes: int | None = None) -> int | None:
    """Return the length of an axis of a tensor; None if it is missing, empty or does not have `num_axes` axes."""
    tensor = tensors.get(key)
    if tensor is None or not tensor.numel() or num_axes not in (None, tensor.ndim):
        return None
    return tensor.shape[axis] if -tensor.ndim <= axis < tensor.ndim else None


def count(tensors: Mapping[str, torch.Tensor], prefix: str, first: int = 0) -> int | None:
    """Return how many modules `prefix` + index, with indices from `first`, the keys name; None if there is none."""
    pattern = re.compile(rf"{re.escape(prefix)}(\d+)\.")
    numbers = {int(match[1]) for key in tensors if (match := pattern.match(key))}
    return max(numbers) + 1 - first if numbers else None


def ratio(width: int | None, over: int | None) -> int | float | None:
    """Return width / over, as an int if it is a whole number; None if either is unknown."""
    if width is None or not over:
        return None
    return width // over if width % over == 0 else width / over


def whole(values: list) -> list | None:
    """Return the list; None if it is empty or contains None."""
    return None if not values or None in values else values


def found(**fields) -> dict:
    """Return the fields whose value is not None."""
    return {name: value for name, value in fields.items() if value is not None}


def num_labels(tensors: Mapping[str, torch.Tensor], bias: str = "head.bias") -> int:
    """Return the number of classes of a linear classifier, the length of its bias; 0 if there is no such bias."""
    return size(tensors, bias, 0, 1) or 0


def has_bias(tensors: Mapping[str, torch.Tensor], layer: str) -> bool | None:
    """Return whether a layer, whose keys begin with `layer`, has a bias; None if its weight is missing too."""
    return f"{layer}bias" in tensors if f"{layer}weight" in tensors else None
