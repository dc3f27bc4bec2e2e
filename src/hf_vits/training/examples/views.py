"""Views of images, for methods that compare them, and the patches hidden in them."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torchvision.transforms import v2 as transforms

from hf_vits.data.splits import Split
from hf_vits.objectives.masks import MaskRatio, block_mask, scattered_mask
from hf_vits.pretraining.sit.batches_sit import SiTBatches
from hf_vits.pretraining.sit.configuration_sit import SiTConfig
from hf_vits.processing.opening import to_mode
from hf_vits.recipe.pretraining import MaskRecipe, ViewsRecipe

from .batches import Draw
from .images import normalization
from .randomness import seeded

# The Gaussian blur of PIL's radii 0.1 to 2, which are its deviations.
_BLUR = {"kernel_size": 13, "sigma": (0.1, 2.0)}


class MaskedPatches:
    """Masks of an image's global views, drawn from its seed (bytedance/ibot, loader.py)."""

    def __init__(self, recipe: MaskRecipe, num_views: int, grid: tuple[int, int]):
        self.ratio = MaskRatio(recipe.ratios, recipe.spreads, recipe.first_epoch)
        self.blocks = recipe.shape == "blocks"
        self.num_views, self.grid = num_views, grid

    def __call__(self, draw: Draw) -> Tensor:
        """(views, patches), True where a patch is hidden."""
        generator = random.Random(draw.seed)
        masks = [self._mask(self.ratio.draw(generator, draw.epoch), generator) for _ in range(self.num_views)]
        return torch.from_numpy(np.stack(masks)).flatten(1)

    def _mask(self, ratio: float, generator: random.Random) -> np.ndarray:
        if self.blocks:
            return block_mask(self.grid, ratio, generator)
        return scattered_mask(self.grid, ratio, np.random.RandomState(generator.getrandbits(32)))


class Views(Dataset):
    """Views of images: item `Draw` is a function of the draw alone.

    pixel_values (global views, channels, height, width), local_pixel_values likewise if there are any, with masks
    bool_masked_pos (global views, patches), and the draw's seed.

    Args:
        size: (height, width) of global views.
        mode: PIL's mode of the images that the model takes.
    """

    def __init__(
        self,
        split: Split,
        recipe: ViewsRecipe,
        processor,
        size: tuple[int, int],
        mode: str,
        masks: MaskedPatches | None = None,
    ):
        self.split, self.mode, self.masks = split, mode, masks
        self.normalize = transforms.Compose(normalization(processor))
        local_size = (recipe.local_size, recipe.local_size)
        first, other, local = (
            view_transform(recipe, processor.resample, *extent, kind)
            for kind, extent in enumerate(
                [(size, recipe.global_scale), (size, recipe.global_scale), (local_size, recipe.local_scale)]
            )
        )
        self.transforms = {
            "pixel_values": [first, *[other] * (recipe.num_global - 1)],
            "local_pixel_values": [local] * recipe.num_local,
        }

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        image = to_mode(self.split.inputs[draw.index], self.mode)
        with seeded(draw.seed):
            item = {
                name: self.normalize(torch.stack([transform(image) for transform in views]))
                for name, views in self.transforms.items()
                if views
            }
        if self.masks is not None:
            item["bool_masked_pos"] = self.masks(draw)
        return item | {"seed": draw.seed}


# What an item tells that no model takes.
_ABOUT = ("labels", "mixture", "seed")


def collate_views(items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Batch of items of `Views`, or of `TrainingImages` without their labels."""
    return default_collate([{name: value for name, value in item.items() if name not in _ABOUT} for item in items])


class CorruptingCollator:
    """Batch of items of `Views` as SiT takes it: rotated and corrupted by each image's seed."""

    def __init__(self, config: SiTConfig):
        self.batches = SiTBatches(config)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        return self.batches([item["pixel_values"] for item in items], [item["seed"] for item in items])


def view_transform(
    recipe: ViewsRecipe, interpolation, size: tuple[int, int], scale: list[float], kind: int
) -> transforms.Transform:
    """PIL image to a view (channels, *size) of bytes; `kind` 0 is the first global view, 1 are other, 2 local ones."""
    crop = transforms.RandomResizedCrop(size, scale=tuple(scale), interpolation=interpolation)
    jitter, blur = transforms.ColorJitter(*recipe.jitter), transforms.GaussianBlur(**_BLUR)
    steps = [
        (recipe.flip, transforms.RandomHorizontalFlip(recipe.flip)),
        (recipe.color_jitter, transforms.RandomApply([jitter], p=recipe.color_jitter)),
        (recipe.grey, transforms.RandomGrayscale(recipe.grey)),
        (recipe.blur[kind], transforms.RandomApply([blur], p=recipe.blur[kind])),
        (recipe.solarize[kind], transforms.RandomSolarize(threshold=128, p=recipe.solarize[kind])),
    ]
    chosen = [step for probability, step in steps if probability]
    return transforms.Compose([crop, *chosen, transforms.PILToTensor()])
