"""Data sets of training and evaluation images, and batches of them with MixUp and CutMix."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import one_hot
from torch.utils.data import Dataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2 as transforms

from hf_vits.data.checks import decoding
from hf_vits.data.known_labels import known_except, unknown_indices
from hf_vits.data.splits import Split
from hf_vits.layers.multi_label import draw_known_labels
from hf_vits.objectives.classification import as_distribution
from hf_vits.processing.opening import to_mode
from hf_vits.recipe import AugmentationRecipe

from .batches import SampleKey
from .randomness import seeded


def read_image(split: Split, index: int, mode: str) -> Image.Image:
    """Return an image of a split in a PIL mode; raises `UnreadableInput`."""
    with decoding(split.inputs, index):
        return to_mode(split.inputs[index], mode)


class TrainingImages(Dataset):
    """Data set of augmented images, indexed by a `SampleKey` that decides everything random about them.

    A sample is a dict of pixel_values (channels, height, width), labels (a class, or floats (classes,) where several
    may be true) and mix_seed.

    Args:
        transform: from a PIL image to pixel_values.
        mode: PIL mode of the images that the model takes.
        known_fraction: largest fraction of the labels that are known; a sample then has known_labels (classes,).
    """

    def __init__(self, split: Split, transform: transforms.Transform, mode: str, known_fraction: float | None = None):
        self.split, self.transform, self.mode, self.known_fraction = split, transform, mode, known_fraction

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        labels, known = torch.as_tensor(self.split.labels[key.index]), {}
        with seeded(key.seed):
            pixel_values = self.transform(read_image(self.split, key.index, self.mode))
            if self.known_fraction is not None:
                known["known_labels"] = draw_known_labels(labels[None], self.known_fraction)[0]
        return {"pixel_values": pixel_values, "labels": labels, "mix_seed": key.mix_seed, **known}


class EvaluationImages(Dataset):
    """Data set of images as the image processor makes them: pixel_values (channels, height, width) and labels.

    Args:
        known_fraction: fraction of the labels that are known, always the same ones of an image; an item then has
            known_labels (classes,).
    """

    def __init__(self, split: Split, processor, mode: str, known_fraction: float | None = None):
        self.split, self.processor, self.mode, self.known_fraction = split, processor, mode, known_fraction

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the items of a batch, whose images are prepared together; PyTorch's loader calls it."""
        images = [read_image(self.split, index, self.mode) for index in indices]
        batch = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return [self._item(index, pixel_values) for index, pixel_values in zip(indices, batch, strict=True)]

    def _item(self, index: int, pixel_values: torch.Tensor) -> dict[str, Any]:
        labels, known = self.split.labels[index], {}
        if self.known_fraction is not None:
            count = int(self.known_fraction * len(labels))
            unknown = unknown_indices(pixel_values.numpy(), len(labels), count)
            known["known_labels"] = torch.from_numpy(known_except(labels, unknown))
        return {"pixel_values": pixel_values, "labels": torch.as_tensor(labels), **known}


class TrainingCollator:
    """Makes a batch of the samples of `TrainingImages` or `TrainingClips`, with MixUp or CutMix where the recipe asks.

    pixel_values are (batch, ..., channels, height, width); labels are (batch,) classes, or (batch, classes)
    distributions if the run mixes or an input has several labels.
    """

    def __init__(self, recipe: AugmentationRecipe, num_classes: int):
        self.num_classes = num_classes
        self.mix = mixing(recipe, num_classes)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        mix_seed = items[0]["mix_seed"]
        batch = default_collate([{k: v for k, v in item.items() if k != "mix_seed"} for item in items])
        if batch["labels"].ndim == 2 and not batch["labels"].is_floating_point():
            batch["labels"] = one_hot(batch["labels"], self.num_classes).sum(dim=1).float()
        if self.mix is None:
            return batch
        images, labels = batch["pixel_values"], as_distribution(batch["labels"], self.num_classes)
        if mix_seed is not None:
            if images.ndim == 5:  # clips, which torchvision mixes only under this name
                images = tv_tensors.Video(images)
            with seeded(mix_seed):
                images, labels = (mixed[1:] for mixed in self.mix(images, labels))
        return {"pixel_values": images.as_subclass(torch.Tensor), "labels": labels}


def mixing(recipe: AugmentationRecipe, num_classes: int) -> transforms.Transform | None:
    """Return MixUp, CutMix or a random choice between them, over (images, one-hot labels); None if both are off."""
    mixup = transforms.MixUp(alpha=recipe.mixup, num_classes=num_classes) if recipe.mixup else None
    cutmix = transforms.CutMix(alpha=recipe.cutmix, num_classes=num_classes) if recipe.cutmix else None
    if mixup and cutmix:
        mix = transforms.RandomChoice([mixup, cutmix], p=[1 - recipe.cutmix_probability, recipe.cutmix_probability])
    else:
        mix = mixup or cutmix
    return mix and transforms.RandomApply([mix], p=recipe.mix_probability)
