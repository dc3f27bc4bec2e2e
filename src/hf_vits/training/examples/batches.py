"""Which image goes into which batch, and with which seed it is augmented.

The global batch is the unit: its images, their augmentation and how they are mixed do not depend on how many
processes or accumulation steps share it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from .randomness import Choice, seed_at


class Draw(NamedTuple):
    """One image of a batch.

    index: which image.
    seed: of its augmentation.
    mixture: seed of the batch's MixUp or CutMix; None where nothing is mixed.
    shared_seed: of what its repeats have in common, such as the part of a video that they show.
    epoch: that the batch belongs to.
    """

    index: int
    seed: int
    mixture: int | None
    shared_seed: int
    epoch: int


class GlobalBatches(Sampler):
    """Batch sampler over one process's parts of the global batches of an epoch; the last incomplete one is dropped.

    A global batch is cut into `processes * accumulation` equal runs of images. Where a batch is mixed, image i meets
    its neighbour i - 1, as torchvision's MixUp and CutMix pair them, so a run comes with the image before it as a
    first, extra one, which the collator drops after mixing.

    Args:
        num_images: size of the training split.
        batch_size: images of a global batch.
        repeats: how many differently augmented versions of an image follow one another in an epoch. Within a batch
            they stand far apart, as on the different processes of facebookresearch/deit, samplers.py.
        mix_steps: number of global batches, from the start of training, that are mixed.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        *,
        repeats: int = 1,
        accumulation: int = 1,
        processes: int = 1,
        process: int = 0,
        mix_steps: int = 0,
    ):
        self.parts = processes * accumulation
        if batch_size % self.parts:
            raise ValueError(
                f"train.batch_size {batch_size} cannot be shared equally by {processes} process(es) "
                f"x train.accumulation {accumulation}"
            )
        if num_images < batch_size:
            raise ValueError(f"{num_images} training images are fewer than train.batch_size {batch_size}")
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.repeats = repeats
        self.accumulation = accumulation
        self.processes = processes
        self.process = process
        self.mix_steps = mix_steps
        self.epoch = 0

    @property
    def part_size(self) -> int:
        """Images that a process takes at a time."""
        return self.batch_size // self.parts

    @property
    def batches_per_epoch(self) -> int:
        """Global batches of an epoch."""
        return self.num_images // self.batch_size

    def part(self, accumulated: int) -> int:
        """Which part of the global batch this process takes, after as many `accumulated` ones."""
        return accumulated * self.processes + self.process

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches_per_epoch * self.accumulation

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order()
        for number in range(self.batches_per_epoch):
            step = self.epoch * self.batches_per_epoch + number
            mixture = seed_at(self.seed, Choice.MIXTURE, step) if step < self.mix_steps else None
            first = number * self.batch_size
            positions = first + self._spread()
            for accumulated in range(self.accumulation):
                start = self.part(accumulated) * self.part_size
                places = range(start - (mixture is not None), start + self.part_size)
                yield [self._draw(order, int(positions[place]), mixture) for place in places]

    def _order(self) -> np.ndarray:
        shuffled = np.random.default_rng(seed_at(self.seed, Choice.ORDER, self.epoch)).permutation(self.num_images)
        return np.repeat(shuffled, self.repeats)[: self.num_images]

    def _spread(self) -> np.ndarray:
        """Places of a batch, reordered so that the repeats of an image are not neighbours."""
        places = np.arange(self.batch_size)
        return np.concatenate([places[first :: self.repeats] for first in range(self.repeats)])

    def _draw(self, order: np.ndarray, position: int, mixture: int | None) -> Draw:
        seed = seed_at(self.seed, Choice.AUGMENTATION, self.epoch, position)
        shared_seed = seed_at(self.seed, Choice.REPEATS, self.epoch, position // self.repeats)
        return Draw(int(order[position]), seed, mixture, shared_seed, self.epoch)
