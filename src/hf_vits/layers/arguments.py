"""Checks of a model's arguments, by type and shape alone: none waits for a GPU or depends on a traced value.

What values an index may have is seen where it is used: PyTorch itself compares on the CPU, and its IndexError gets the
argument's name here. On a GPU it ends in an assertion of the device, as everywhere in PyTorch.
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn


def check_tensors(given: dict[str, object], names: Iterable[str], main: str) -> None:
    """Raise TypeError or ValueError unless arguments are tensors of real numbers, and the main one is not empty.

    Args:
        given: arguments by name; None for those that are left out.
        names: of those that must be tensors.
        main: name of the model's main input.
    """
    for name in names:
        value = given.get(name)
        if value is None:
            continue
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"{name} must be a torch tensor, got {type(value).__name__}: the model's processor makes one with "
                'return_tensors="pt"'
            )
        if value.is_complex():
            raise TypeError(f"{name} must hold real numbers, got {value.dtype}")
        if name == main and any(size == 0 for size in value.shape):
            raise ValueError(f"{name} must not be empty, got shape {tuple(value.shape)}")


def check_flags(given: dict[str, object]) -> None:
    """Raise TypeError unless what chooses outputs is True, False or, for `output_...`, a list of numbers of layers."""
    for name, value in given.items():
        is_choice = name.startswith("output_")
        if value is None or not (is_choice or name == "return_dict"):
            continue
        layers = value if is_choice and isinstance(value, list | tuple) else ()
        if not (isinstance(value, bool) or (layers and all(isinstance(layer, int) for layer in layers))):
            allowed = "True, False or a list of numbers of layers" if is_choice else "True or False"
            raise TypeError(f"{name} must be {allowed}, got {type(value).__name__}")


def check_ids(name: str, ids: torch.Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Raise TypeError or ValueError unless indices are integers and, with `shape`, have it."""
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must be int64 indices, got {ids.dtype}")
    if shape is not None and ids.shape != shape:
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(ids.shape)}")


def with_range(name: str, size: int, look_up: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return the result of `look_up`; ValueError with the argument's name where it finds an index out of range."""
    if torch.compiler.is_compiling():
        return look_up()
    try:
        return look_up()
    except IndexError as error:
        raise ValueError(f"{name} must lie in [0, {size}): {error}") from error


def embed(table: nn.Embedding, name: str, ids: torch.Tensor) -> torch.Tensor:
    """Return the rows of `table` for the indices in argument `name`, with `check_ids` and `with_range`."""
    check_ids(name, ids)
    return with_range(name, table.num_embeddings, lambda: table(ids))
