"""Parameters of a classifier that learns a stream of tasks: its backbone, and the rows of its head."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def head_parameters(model: Any) -> dict[str, nn.Parameter]:
    """Return the parameters outside the base model that have a row for each class.

    Raises:
        ValueError: the model has none, so that tasks cannot have heads of their own.
    """
    base, count = f"{model.base_model_prefix}.", model.config.num_labels
    found = {
        name: value
        for name, value in model.named_parameters()
        if not name.startswith(base) and value.ndim and len(value) == count
    }
    if not found:
        raise ValueError(f"{type(model).__name__} has no classifier with a row for each of its {count} classes")
    return found


def backbone_parameters(model: Any) -> dict[str, nn.Parameter]:
    """Return the trained parameters outside the head."""
    heads = head_parameters(model)
    return {name: value for name, value in model.named_parameters() if name not in heads and value.requires_grad}


@contextlib.contextmanager
def head_rows_kept(model: Any, rows: Sequence[int]) -> Iterator[None]:
    """Restore rows of the head after the context, such as an optimizer's step, whatever it does to them."""
    kept: list[tuple[nn.Parameter, Tensor]] = []
    chosen = torch.tensor(list(rows), dtype=torch.long)
    if len(chosen):
        kept = [(value, value.detach()[chosen.to(value.device)].clone()) for value in head_parameters(model).values()]
    yield
    with torch.no_grad():
        for value, before in kept:
            value[chosen.to(value.device)] = before
