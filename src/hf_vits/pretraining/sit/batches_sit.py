"""Batches of SiT: views of images, rotated and corrupted, with what tells how."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hf_vits.objectives import corruptions as paint
from hf_vits.pretraining.sit.configuration_sit import SiTConfig


class SiTBatches:
    """Makes of clean views what `SiTForPreTraining.forward` takes; to be called where images become a batch.

    Each view has random numbers of its own. Blocks of another image come from the same view of one in the batch that
    is given here, which is a process's part of the global one.
    """

    def __init__(self, config: SiTConfig):
        self.config = config

    def __call__(self, views: Sequence[Tensor], seeds: Sequence[int]) -> dict[str, Tensor]:
        """Rotate and corrupt, as `config` says; the arguments are left as they are.

        Args:
            views: of each image, (2, channels, height, width), normalised.
            seeds: of each image, not negative.

        Returns:
            pixel_values and corrupted_pixel_values (batch, 2, channels, height, width); corruption_mask
            (batch, 2, height, width), where blocks corrupt; rotation_labels (batch, 2), where rotation is a task.
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
        """Of one view of every image, (batch, channels, height, width)."""
        made = {"pixel_values": images}
        if "rotation" in self.config.tasks:
            made = self.rotate(images, generators)
        return made | self.corrupt(made["pixel_values"], generators, noises)

    def corrupt(
        self, images: Tensor, generators: list[np.random.RandomState], noises: list[torch.Generator]
    ) -> dict[str, Tensor]:
        """Corrupted copies of one view of every image and, where blocks corrupt, their masks."""
        if self.config.corruption == "distortions":
            return {"corrupted_pixel_values": paint.corrupt(images, generators, noises)}
        corrupted, mask = self.drop(images, generators, noises)
        return {"corrupted_pixel_values": corrupted, "corruption_mask": mask}

    def rotate(self, images: Tensor, generators: list[np.random.RandomState]) -> dict[str, Tensor]:
        """Every image turned by 0 to 3 quarters, and by how many."""
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
        """Copies with blocks over them, and masks (batch, height, width)."""
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


def generators_of(seeds: Sequence[int], view: int) -> tuple[list[np.random.RandomState], list[torch.Generator]]:
    """For one view of each image, numpy's and torch's.

    Not seeded with the seeds themselves: both kinds give the same numbers for the same seed, and the views may have
    been drawn from these.
    """
    derived = [np.random.SeedSequence((seed, view)).generate_state(2).tolist() for seed in seeds]
    generators = [np.random.RandomState(first) for first, _ in derived]
    return generators, [torch.Generator().manual_seed(second) for _, second in derived]
