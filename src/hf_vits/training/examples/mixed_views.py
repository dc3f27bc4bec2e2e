"""MixUp and CutMix of the views of two images, for methods whose loss takes the weights (EsViT on views alone)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_vits.recipe.pretraining import ViewsRecipe


class MixedViews:
    """Collates samples of views and mixes the images 0 and 1, 2 and 3, ... of a batch, view by view.

    microsoft/esvit, main_esvit.py, with timm's mode "pair". Teacher and student see the same mixed views, as there,
    where timm's `Mixup` mixes in place. The seed of a pair's first image decides how it is mixed, so that batches do
    not depend on how many processes and accumulation steps divide them.

    Args:
        collate: makes the model's keyword arguments from a list of samples.
    """

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]], recipe: ViewsRecipe):
        self.collate, self.recipe = collate, recipe

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the model's arguments and `mixing`, the weights (views, images, images) of the images in the mixed.

        Raises:
            ValueError: the number of samples is odd.
        """
        if len(samples) % 2:
            raise ValueError(
                "views.mixup and views.cutmix mix pairs of images: the samples of a process and accumulation step "
                f"must be an even number, got {len(samples)}"
            )
        batch = self.collate(samples)
        sizes = [batch[name] for name in ("pixel_values", "local_pixel_values") if name in batch]
        views = [view for size in sizes for view in size.unbind(1)]
        mixing = torch.eye(len(samples)).repeat(len(views), 1, 1)
        for first in range(0, len(samples), 2):
            generator = np.random.RandomState(samples[first]["seed"])
            for number, view in enumerate(views[: self.recipe.num_mixed]):
                kept = self.mix(view[first : first + 2], generator)
                weights = torch.tensor([[kept, 1 - kept], [1 - kept, kept]])
                mixing[number, first : first + 2, first : first + 2] = weights
        return batch | {"mixing": mixing}

    def mix(self, pair: Tensor, generator: np.random.RandomState) -> float:
        """Mix two images (2, channels, height, width) in place; return the weight that each keeps of itself."""
        recipe = self.recipe
        if generator.rand() >= recipe.mix_probability:
            return 1.0
        cuts = recipe.cutmix > 0 and (not recipe.mixup or generator.rand() < recipe.cutmix_probability)
        alpha = recipe.cutmix if cuts else recipe.mixup
        kept = float(generator.beta(alpha, alpha))
        if not cuts:
            pair.copy_(kept * pair + (1 - kept) * pair.flip(0))
            return kept
        box = [cut(size, (1 - kept) ** 0.5, generator) for size in pair.shape[-2:]]
        part = pair[..., box[0], box[1]]
        part.copy_(part.flip(0).clone())
        return 1 - part[0, 0].numel() / pair[0, 0].numel()


def cut(size: int, fraction: float, generator: np.random.RandomState) -> slice:
    """Return a random part of an axis, `fraction` of its length long or shorter at the border."""
    length, middle = int(size * fraction), generator.randint(size)
    return slice(max(middle - length // 2, 0), min(middle + length // 2, size))
