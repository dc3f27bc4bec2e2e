"""The samples of each training batch and the seeds of their augmentation.

The unit is the global batch, the samples of one optimizer step: they, their augmentation and their mixing do not
depend on how many processes and accumulation steps divide it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from hf_vits.data.streams import Stream

from .randomness import RandomStream, seed_at


class SampleKey(NamedTuple):
    """Identifies one sample of a batch: an input and the seeds of everything random about it.

    Training data sets are indexed by it; the same key always returns the same sample.

    Attributes:
        index: of the input in the training split.
        seed: of the sample's augmentation.
        mix_seed: of the batch's MixUp or CutMix; None if the batch is not mixed.
        shared_seed: of what the repeats of an input have in common, such as the part of a video that they show.
        epoch: to which the batch belongs.
    """

    index: int
    seed: int
    mix_seed: int | None
    shared_seed: int
    epoch: int


class GlobalBatches(Sampler):
    """Batch sampler of one process: lists of `SampleKey`, its parts of the global batches of an epoch.

    An incomplete last batch is dropped. A global batch is divided into `processes * accumulation` consecutive parts of
    equal size. MixUp and CutMix, as torchvision's, mix sample i with sample i - 1; so the parts of a mixed batch begin
    with one extra sample, the last of the part before, which the collator drops after mixing.

    Args:
        num_samples: size of the training split.
        batch_size: number of samples of a global batch.
        seed: of the recipe.
        classes: class of each input (inputs,), for epochs in which every class is as frequent as every other. None:
            each input once.
        repeats: number of augmented versions of an input in a row of an epoch's order. Within a batch they are far
            apart, as on the different processes of facebookresearch/deit, samplers.py.
        accumulation: number of parts that this process takes of each global batch, one after the other.
        processes: number of processes.
        process: rank of this process.
        mix_steps: number of global batches, from the start of training, that are mixed.

    Raises:
        ValueError: the batch size is no multiple of the number of parts, or larger than the training split.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        *,
        classes: np.ndarray | None = None,
        repeats: int = 1,
        accumulation: int = 1,
        processes: int = 1,
        process: int = 0,
        mix_steps: int = 0,
    ):
        self.parts = processes * accumulation
        if batch_size % self.parts:
            raise ValueError(
                f"train.batch_size {batch_size} cannot be divided equally among {processes} process(es) "
                f"x train.accumulation {accumulation}"
            )
        if num_samples < batch_size:
            raise ValueError(f"{num_samples} training samples are fewer than train.batch_size {batch_size}")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.classes = classes
        self.repeats = min(repeats, num_samples)  # more repeats than samples change nothing
        self.accumulation = accumulation
        self.processes = processes
        self.process = process
        self.mix_steps = mix_steps
        self.epoch = 0
        self.skipped = 0

    @property
    def part_size(self) -> int:
        """Return the number of samples that a process takes at a time."""
        return self.batch_size // self.parts

    @property
    def batches_per_epoch(self) -> int:
        """Return the number of global batches of an epoch."""
        return self.num_samples // self.batch_size

    def part(self, accumulated: int) -> int:
        """Return the index of the part of a global batch that this process takes after `accumulated` others."""
        return accumulated * self.processes + self.process

    def skip(self, batches: int) -> None:
        """Leave the first batches of the next iteration empty, for a caller that drops them to resume an epoch.

        The seeds of a million samples take half a minute to compute.
        """
        self.skipped = batches

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches_per_epoch * self.accumulation

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order, skipped, self.skipped = self._order(), self.skipped, 0
        yield from ([] for _ in range(skipped))
        for number in range(skipped // self.accumulation, self.batches_per_epoch):
            step = self.epoch * self.batches_per_epoch + number
            mix_seed = seed_at(self.seed, RandomStream.MIXING, step) if step < self.mix_steps else None
            first = number * self.batch_size
            positions = first + self._spread()
            for accumulated in range(self.accumulation):
                start = self.part(accumulated) * self.part_size
                places = range(start - (mix_seed is not None), start + self.part_size)
                yield [self._key(order, int(positions[place]), mix_seed) for place in places]

    def _order(self) -> Any:
        random = np.random.default_rng(seed_at(self.seed, RandomStream.ORDER, self.epoch))
        if self.classes is None:
            shuffled = random.permutation(self.num_samples)
        else:
            _, position, counts = np.unique(self.classes, return_inverse=True, return_counts=True)
            frequency = 1 / (len(counts) * counts[position])
            shuffled = random.choice(self.num_samples, self.num_samples, p=frequency)
        return np.repeat(shuffled, self.repeats)[: self.num_samples]

    def _spread(self) -> np.ndarray:
        """Return the places of a batch, reordered so that the repeats of an input are not neighbours."""
        places = np.arange(self.batch_size)
        return np.concatenate([places[first :: self.repeats] for first in range(min(self.repeats, self.batch_size))])

    def _key(self, order: Any, position: int, mix_seed: int | None) -> SampleKey:
        seed = seed_at(self.seed, RandomStream.AUGMENTATION, self.epoch, position)
        shared_seed = seed_at(self.seed, RandomStream.REPEATS, self.epoch, position // self.repeats)
        return SampleKey(int(order[position]), seed, mix_seed, shared_seed, self.epoch)


class StreamBatches(GlobalBatches):
    """Sampler of global batches of a stream: its samples in their order, without end.

    Args:
        stream: is told the size of a batch and the seed.
        steps: number of global batches that count as an epoch.
        batch_size, seed, options: arguments of `GlobalBatches`.
    """

    def __init__(self, stream: Stream, steps: int, batch_size: int, seed: int, **options: Any):
        super().__init__(steps * batch_size, batch_size, seed, **options)
        if batch_size % self.repeats:
            raise ValueError(
                f"of a stream, train.batch_size {batch_size} must be a multiple of augmentation.repeats {self.repeats}"
            )
        stream.plan(batch_size // self.repeats, seed)

    def _order(self) -> Any:
        return _Consecutive(self.epoch * self.num_samples, self.repeats)


class _Consecutive(NamedTuple):
    first: int
    repeats: int

    def __getitem__(self, position: Any) -> Any:
        return (self.first + position) // self.repeats
