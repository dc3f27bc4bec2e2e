"""Batches of SiT: views of images, rotated and corrupted, with rotation labels and corruption masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...objectives import corruptions as paint
from .configuration_sit import SiTConfig


class SiTBatches:
    """Makes the arguments of `SiTForPreTraining.forward` from the clean views of a batch of images.

    Each view has a random stream of its own. Blocks that replace a part of an image come from the same view of another
    image of the given batch, which is a process's part of the global batch.
    """

    def __init__(self, config: SiTConfig):
        self.config = config

    def __call__(self, views: Sequence[Tensor], seeds: Sequence[int]) -> dict[str, Tensor]:
        """Rotate and corrupt views as the configuration asks for; the arguments are not changed.

        Args:
            views: two views of each image, each entry (2, channels, height, width), normalised.
            seeds: a seed of each image, 0 or more.

        Returns:
            pixel_values and corrupted_pixel_values (batch, 2, channels, height, width); corruption_mask
            (batch, 2, height, width), with `config.corruption` "blocks"; rotation_labels (batch, 2), with rotation
            among the tasks.

        Raises:
            ValueError: as many seeds as images are needed, and square views where rotation is a task.
        """
        if len(views) != len(seeds):
            raise ValueError(f"each image needs a seed, got {len(views)} images and {len(seeds)} seeds")
        made = [
            self.make(images, *generators_of(seeds, view))
            for view, images in enumerate(torch.stack(list(views)).unbind(1))
        ]
        return {name: torch.stack([parts[name] for parts in made], dim=1) for name in made[0]}

    def make(
        self, images: Tensor, generators: list[np.random.RandomState], noises: list[torch.Generator]
    ) -> dict[str, Tensor]:
        """Rotate and corrupt one view of every image, (batch, channels, height, width)."""
        made = {"pixel_values": images}
        if "rotation" in self.config.tasks:
            made = self.rotate(images, generators)
        return made | self.corrupt(made["pixel_values"], generators, noises)

    def corrupt(
        self, images: Tensor, generators: list[np.random.RandomState], noises: list[torch.Generator]
    ) -> dict[str, Tensor]:
        """Corrupt one view of every image (batch, channels, height, width); with blocks also return their masks."""
        if self.config.corruption == "distortions":
            return {"corrupted_pixel_values": paint.corrupt(images, generators, noises)}
        corrupted, mask = self.drop(images, generators, noises)
        return {"corrupted_pixel_values": corrupted, "corruption_mask": mask}

    def rotate(self, images: Tensor, generators: list[np.random.RandomState]) -> dict[str, Tensor]:
        """Rotate every image by 0 to 3 quarter turns, drawn at random, with the number as label."""
        height, width = images.shape[-2:]
        if height != width:
            raise ValueError(f"only square views can be turned by quarters and stay a batch, got {height}x{width}")
        turns = [generator.randint(0, 4) for generator in generators]
        turned = [
            paint.rotate(image, quarters, self.config.rotate_clockwise)
            for image, quarters in zip(images, turns, strict=True)
        ]
        return {"pixel_values": torch.stack(turned), "rotation_labels": torch.tensor(turns)}

    def drop(
        self, images: Tensor, generators: list[np.random.RandomState], noises: list[torch.Generator]
    ) -> tuple[Tensor, Tensor]:
        """Fill blocks of copies of the images; return them and masks (batch, height, width), True in a block."""
        config = self.config
        replaced = [
            bool(config.replaced_fraction) and generator.rand() < config.replacement_probability
            for generator in generators
        ]
        corrupted = images.clone()
        masks = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool)
        for index, (again, generator, noise) in enumerate(zip(replaced, generators, noises, strict=True)):
            if not again:
                masks[index] = paint.drop_blocks(
                    corrupted[index],
                    generator,
                    config.block_kinds,
                    config.dropped_fraction,
                    config.block_alignment,
                    noise=noise,
                )
        return paint.mix_blocks(
            images, corrupted, masks, replaced, generators, config.replaced_fraction, config.block_alignment
        )


class SiTCollator:
    """Makes a batch of training samples, each with pixel_values (2, channels, height, width) and its seed."""

    def __init__(self, config: SiTConfig):
        self.batches = SiTBatches(config)

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return self.batches([sample["pixel_values"] for sample in samples], [sample["seed"] for sample in samples])


def generators_of(seeds: Sequence[int], view: int) -> tuple[list[np.random.RandomState], list[torch.Generator]]:
    """Return numpy's and torch's generators for one view of each image.

    They are seeded with hashes: the same seed would repeat the random numbers that the views were drawn with.
    """
    derived = [np.random.SeedSequence((seed, view)).generate_state(2).tolist() for seed in seeds]
    generators = [np.random.RandomState(first) for first, _ in derived]
    return generators, [torch.Generator().manual_seed(second) for _, second in derived]
