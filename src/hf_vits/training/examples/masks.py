"""Data sets of images with masks of classes, augmented together."""

from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2 as transforms

from hf_vits.data.images.masked import IGNORED
from hf_vits.data.splits import Split
from hf_vits.processing.opening import to_mode
from hf_vits.processing.settings import channel_values
from hf_vits.recipe import AugmentationRecipe

from .batches import SampleKey
from .image_augmentation import Normalization, flip_and_affine, jitter_and_grey
from .randomness import seeded

# Settings of a recipe's augmentation that apply to images with masks.
READS = ("short_side", "crop_class_fraction", "interpolation", "flip", "affine", "color_jitter", "grey", "repeats")
_TRIES = 10  # crops until one is not of a single class


class TrainingMasks(Dataset):
    """Data set of augmented crops with masks, indexed by a `SampleKey` that decides everything random about them.

    A sample is a dict of pixel_values (channels, height, width) and labels (height, width) of int64, 255 where nothing
    is known, as beyond the image.

    Args:
        processor: a `VitsSegmentationProcessor`.
        mode: PIL mode of the images that the model takes.
        size: (height, width) of the crops.

    Raises ValueError where the recipe asks for another augmentation.
    """

    def __init__(self, split: Split, processor: Any, mode: str, size: tuple[int, int], recipe: AugmentationRecipe):
        plain = AugmentationRecipe()
        changed = [name for name, value in vars(recipe).items() if value != getattr(plain, name)]
        if others := [name for name in changed if name not in READS]:
            raise ValueError(f"augmentation.{others[0]} is not for masks, only {', '.join(READS)}: leave it out")
        self.split, self.mode = split, mode
        self.transform = joint_transform(recipe, processor, size)
        self.pixels = transforms.Compose([transforms.PILToTensor(), Normalization(processor)])

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: SampleKey) -> dict[str, torch.Tensor]:
        image, mask = self.split.inputs[key.index]
        with seeded(key.seed):
            image, labels = self.transform(to_mode(image, self.mode), tv_tensors.Mask(torch.from_numpy(mask)))
        return {"pixel_values": self.pixels(image), "labels": labels.as_subclass(torch.Tensor)}


def joint_transform(recipe: AugmentationRecipe, processor: Any, size: tuple[int, int]) -> transforms.Transform:
    """Return the transform of a PIL image and its mask; masks are resized to the nearest pixel."""
    colour = [round(255 * mean) for mean in channel_values(processor.image_mean)] if processor.do_normalize else [0]
    fill = {Image.Image: tuple(colour) if len(colour) > 1 else colour[0], tv_tensors.Mask: IGNORED}
    steps = [resize(recipe, processor), MaskedCrop(size, recipe.crop_class_fraction, fill)]
    steps += [*flip_and_affine(recipe, fill), *jitter_and_grey(recipe)]
    return transforms.Compose(steps)


def resize(recipe: AugmentationRecipe, processor: Any) -> transforms.Transform:
    """Return the transform to a random shorter side, or without `short_side` to the size of evaluation."""
    if recipe.interpolation == "random":
        raise ValueError("augmentation.interpolation: random is not for masks; set it to bilinear or bicubic")
    interpolation = recipe.interpolation or processor.resample
    if recipe.short_side is not None:
        low, high = recipe.short_side
        return transforms.RandomResize(low, high + 1, interpolation=interpolation)
    size = dict(processor.size)
    if size.get("height") is not None:
        return transforms.Resize((size["height"], size["width"]), interpolation=interpolation)
    return transforms.Resize(size["shortest_edge"], interpolation=interpolation)


class MaskedCrop(transforms.RandomCrop):
    """Random crop of an image and its mask, padded where they are smaller.

    Args:
        largest: largest fraction of the labelled pixels that one class may cover, as mmsegmentation's cat_max_ratio; a
            crop that one class covers further, or that has one class only, is drawn again, up to ten times in all.
        fill: what is beyond the image, by type.
    """

    def __init__(self, size: tuple[int, int], largest: float | None, fill: dict):
        super().__init__(size, pad_if_needed=True, fill=fill)
        self.largest = largest

    def forward(self, *inputs: Any) -> Any:
        found = super().forward(*inputs)
        for _ in range(_TRIES - 1):
            if self.largest is None or largest_fraction(found[1]) < self.largest:
                break
            found = super().forward(*inputs)
        return found


def largest_fraction(mask: torch.Tensor) -> float:
    """Return the fraction of the labelled pixels of a mask that its most frequent class has; 1 where none has."""
    counts = torch.bincount(mask[mask != IGNORED])
    return float(counts.max() / counts.sum()) if len(counts) else 1.0


class EvaluationMasks(Dataset):
    """Data set of images as the processor makes them, with their masks as they are: pixel_values, mask and index."""

    def __init__(self, split: Split, processor: Any, mode: str):
        self.split, self.processor, self.mode = split, processor, mode

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, mask = self.split.inputs[index]
        pixel_values = self.processor(images=to_mode(image, self.mode), return_tensors="pt")["pixel_values"][0]
        return {"index": index, "pixel_values": pixel_values, "mask": torch.from_numpy(mask)}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch: index (batch,), the masks in a list, and pixel_values, in a list of batches of one size each."""
    images = [sample["pixel_values"] for sample in samples]
    same = all(image.shape == images[0].shape for image in images)
    return {
        "index": torch.tensor([sample["index"] for sample in samples]),
        "pixel_values": [torch.stack(images)] if same else [image[None] for image in images],
        "masks": [sample["mask"] for sample in samples],
    }
