"""Randomness as a function of place: the same whatever process, worker or restart it is drawn in.

Every random choice of a run has a seed made of the recipe's seed and the place of the choice: epoch and position for
an augmentation, global batch for a mixture, optimizer step for dropout. Nothing depends on how often a generator was
used before, so a resumed run, and one split over processes, repeat the choices of an uninterrupted single one.
"""

import contextlib
import random
from collections.abc import Iterator, Sequence
from enum import IntEnum

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class Choice(IntEnum):
    """What is chosen at random; choices of different kinds at the same place are independent."""

    ORDER = 0
    AUGMENTATION = 1
    MIXTURE = 2
    DROPOUT = 3
    REPEATS = 4
    BATCHES = 5


def seed_at(seed: int, choice: Choice, *place: int) -> int:
    """A 32-bit seed that is a hash of the run's seed, the kind of choice and its place."""
    return int(np.random.SeedSequence((seed, choice, *place)).generate_state(1)[0])


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's CPU generator seeded, and give it its former state back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch on all devices.

    `torch.manual_seed` also notes, with a stack trace, to seed each kind of accelerator once it is there. In every
    step that is slow and fills the memory, so it is used only where there is an accelerator.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what libraries draw from without asking
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


class PartOfBatch(TorchDispatchMode):
    """Draw batch-shaped random numbers for the whole global batch and keep those of one part of it.

    A process that computes part `part` of `parts` of a batch, `rows` rows of it, then drops what a single process
    would have dropped in these rows. Tensors whose first dimension is a multiple of `rows` count as batch-shaped.
    Kernels that draw inside themselves, such as fused attention with dropout on accelerators, are out of reach.

    Args:
        copies: how often the batch is stacked on itself (CoSub: 2); None: as often as there are multiples of `rows`,
            as where several views of the images come one after the other.
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


_DRAW_IN_PLACE = {aten.bernoulli_.float, aten.uniform_.default, aten.normal_.default}
_DRAW_NEW = {aten.rand.default, aten.rand.generator, aten.randn.default, aten.randn.generator}
