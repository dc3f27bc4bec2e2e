"""Seeds of a run's random numbers, so that these do not depend on processes, workers or restarts.

Every random choice has a seed made from the recipe's seed, the kind of choice (its `RandomStream`) and its place:
epoch and position for an augmentation, global batch for MixUp and CutMix, optimizer step for dropout. No choice
depends on earlier ones, so a resumed run, and one divided among processes, repeats the choices of an uninterrupted
single one.
"""

import contextlib
import random
from collections.abc import Iterator, Sequence
from enum import IntEnum

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class RandomStream(IntEnum):
    """A kind of random choice; streams of different kinds are independent at the same place."""

    ORDER = 0
    AUGMENTATION = 1
    MIXING = 2
    DROPOUT = 3
    REPEATS = 4
    BATCHES = 5
    REPLACEMENT = 6


def seed_at(seed: int, stream: RandomStream, *place: int) -> int:
    """Return a 32-bit seed, a hash of the run's seed, the random stream and the place in it."""
    return int(np.random.SeedSequence((seed, stream, *place)).generate_state(1)[0])


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the context, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch on all devices.

    Without an accelerator `torch.manual_seed` is avoided: each call stores a stack trace for devices that may be
    initialised later, which in every step is slow and fills the memory.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from it
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


class PartOfBatch(TorchDispatchMode):
    """Context in which random numbers of a batch's shape are drawn for the global batch, and only one part is kept.

    So dropout and stochastic depth of a process that computes one part are those that a single process would draw for
    the same rows. Tensors whose first dimension is a multiple of `rows` count as batch-shaped. Kernels that draw
    random numbers themselves, such as fused attention with dropout on accelerators, are not affected.

    Args:
        rows: number of samples of the part.
        part: index of the part.
        parts: number of parts of the global batch.
        copies: number of times the batch is stacked on itself (CoSub: 2); None: any number, as with several views of
            each image one after the other.
    """

    def __init__(self, rows: int, part: int, parts: int, copies: int | None = 1):
        super().__init__()
        self.rows, self.part, self.parts, self.copies = rows, part, parts, copies

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _DRAW_IN_PLACE and self._is_batch(args[0].shape):
            tensor = args[0]
            return tensor.copy_(self._own(func(tensor.new_empty(self._whole(tensor.shape)), *args[1:], **kwargs)))
        if func in _DRAW_NEW and not kwargs.get("generator") and self._is_batch(args[0]):
            return self._own(func(self._whole(args[0]), *args[1:], **kwargs))
        if func is aten.native_dropout.default and args[2] and self._is_batch(args[0].shape):
            tensor, rate = args[0], args[1]
            keep = self._own(tensor.new_empty(self._whole(tensor.shape)).bernoulli_(1 - rate))
            return tensor * keep * (1 / (1 - rate) if rate < 1 else 0.0), keep.bool()
        return func(*args, **kwargs)

    def _is_batch(self, shape: Sequence[int]) -> bool:
        return len(shape) > 0 and shape[0] > 0 and shape[0] % (self.rows * (self.copies or 1)) == 0

    def _whole(self, shape: Sequence[int]) -> list[int]:
        return [shape[0] * self.parts, *shape[1:]]

    def _own(self, whole: torch.Tensor) -> torch.Tensor:
        copies = self.copies or len(whole) // (self.parts * self.rows)
        parts = whole.unflatten(0, (copies, self.parts, len(whole) // (copies * self.parts)))
        return parts[:, self.part].flatten(0, 1)


_DRAW_IN_PLACE = {aten.bernoulli_.float, aten.uniform_.default, aten.normal_.default, aten.exponential_.default}
_DRAW_NEW = {aten.rand.default, aten.rand.generator, aten.randn.default, aten.randn.generator}
