"""Exponential moving average (EMA) of the weights, kept beside training."""

import contextlib
import copy
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from hf_vits.files import reading

from .sharding import load_weights, whole_weights

AVERAGE_FILE = "averaged_weights.pt"


class WeightAverage(TrainerCallback):
    """Averages the weights after every optimizer step: average = decay x average + (1 - decay) x weights.

    It starts from the initial weights. Floating-point buffers, such as the statistics of batch norms, are averaged
    too; other buffers, such as indices, are copied. What did not change stays as it is, to the last bit.

    Args:
        model: whose initial weights are copied.
        decay: weight of the old average, from 0 to 1.

    Attributes:
        model: copy of the model that holds the average.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def on_step_end(self, args, state, control, model=None, **kwargs):
        parameters = defaultdict(lambda: ([], []))
        for own, new in zip(self.model.parameters(), model.parameters(), strict=True):
            owns, news = parameters[own.dtype, own.device]
            owns.append(own)
            news.append(new.detach())
        for owns, news in parameters.values():
            torch._foreach_lerp_(owns, news, 1 - self.decay)
        for own, new in zip(self.model.buffers(), model.buffers(), strict=True):
            # Equal infinities, as in masks, have no difference that could be averaged.
            moved = torch.where(own == new, own, own.lerp(new, 1 - self.decay)) if own.is_floating_point() else new
            own.copy_(moved)

    def to(self, device: torch.device) -> None:
        """Move the average to a device."""
        self.model.to(device)

    def save(self, directory: str | Path, *, write: bool = True) -> None:
        """Write the average beside a checkpoint; where it is sharded, all processes call this and one writes."""
        weights = whole_weights(self.model)
        if write:
            torch.save(weights, Path(directory) / AVERAGE_FILE)

    def load(self, directory: str | Path) -> None:
        """Read the average that `save` wrote."""
        with reading(directory, AVERAGE_FILE):
            stored = torch.load(Path(directory) / AVERAGE_FILE, map_location="cpu", weights_only=True)
            load_weights(self.model, stored)

    @contextlib.contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Give `model` the averaged weights inside the context; afterwards restore its own, to the last bit."""
        own = [tensor.detach().clone() for tensor in _tensors(model)]
        self.copy_to(model)
        try:
            yield
        finally:
            _copy(own, model)

    def copy_to(self, model: nn.Module) -> None:
        """Give `model` the averaged weights."""
        _copy(_tensors(self.model), model)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


@torch.no_grad()
def _copy(tensors, model: nn.Module) -> None:
    for target, source in zip(_tensors(model), tensors, strict=True):
        target.copy_(source)
