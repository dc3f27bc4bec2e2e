"""Exponential moving average of the weights, kept beside training."""

import contextlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback

_FILE = "averaged_weights.pt"


class WeightAverage(TrainerCallback):
    """After every optimizer step: average = decay x average + (1 - decay) x weights, from the initial weights on."""

    def __init__(self, model: nn.Module, decay: float):
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.average.n_averaged += 1

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.average.update_parameters(model)

    def save(self, directory: str | Path) -> None:
        torch.save(self.average.state_dict(), Path(directory) / _FILE)

    def load(self, directory: str | Path) -> None:
        self.average.load_state_dict(torch.load(Path(directory) / _FILE, map_location="cpu", weights_only=True))

    @contextlib.contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Inside, `model` has the averaged weights; afterwards its own again, to the last bit."""
        own = [tensor.detach().clone() for tensor in _tensors(model)]
        self._copy(_tensors(self.average.module), model)
        try:
            yield
        finally:
            self._copy(own, model)

    def copy_to(self, model: nn.Module) -> None:
        """Give `model` the averaged weights for good."""
        self._copy(_tensors(self.average.module), model)

    @staticmethod
    @torch.no_grad()
    def _copy(tensors, model: nn.Module) -> None:
        for target, source in zip(_tensors(model), tensors, strict=True):
            target.copy_(source)


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    return chain(model.parameters(), model.buffers())
