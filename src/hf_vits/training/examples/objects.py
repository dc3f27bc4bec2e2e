"""Data sets of images with objects, and batches of images of different sizes."""

from typing import Any

import torch
from torch.nn.functional import pad
from torch.utils.data import Dataset

from hf_vits.data.splits import Split
from hf_vits.recipe import AugmentationRecipe

from .batches import SampleKey
from .images import read_image
from .randomness import seeded

# Settings of a recipe's augmentation that apply to images with objects.
READS = ("short_side", "flip", "repeats")
# What a model takes of an image's objects.
KEPT = ("boxes", "class_labels", "masks")


class EvaluationObjects(Dataset):
    """Data set of images as the processor makes them: pixel_values, objects without crowds, and index.

    Args:
        processor: a `VitsDetectionProcessor`.
        mode: PIL mode of the images that the model takes.
        needs_masks: whether every object must have a mask.
    """

    def __init__(self, split: Split, processor: Any, mode: str, needs_masks: bool):
        self.split, self.processor, self.mode, self.needs_masks = split, processor, mode, needs_masks

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.sample(index) | {"index": index}

    def sample(self, index: int, **options: Any) -> dict[str, Any]:
        """Return pixel_values (channels, height, width), not padded, and objects; `options` are the processor's."""
        image, label = read_image(self.split, index, self.mode), self.split.labels[index]
        annotations = [item for item in label["annotations"] if not item.get("iscrowd")]
        batch = self.processor(
            image, label | {"annotations": annotations}, return_tensors="pt", size_divisor=None, **options
        )
        (objects,) = batch["labels"]
        if self.needs_masks and "masks" not in objects:
            raise ValueError(
                f"image {index} has objects without segmentation, which this model needs: train one for boxes alone"
            )
        names = KEPT if self.needs_masks else KEPT[:2]
        return {"pixel_values": batch["pixel_values"][0], "objects": {name: objects[name] for name in names}}


class TrainingObjects(EvaluationObjects):
    """Data set of augmented images with objects, indexed by a `SampleKey` that decides everything random about them.

    The shorter side is drawn uniformly from `short_side`; images are mirrored with the probability `flip`.

    Raises ValueError where the recipe asks for another augmentation.
    """

    def __init__(self, split: Split, processor, mode: str, needs_masks: bool, recipe: AugmentationRecipe):
        super().__init__(split, processor, mode, needs_masks)
        plain = AugmentationRecipe()
        changed = [name for name, value in vars(recipe).items() if value != getattr(plain, name)]
        if others := [name for name in changed if name not in READS]:
            raise ValueError(f"augmentation.{others[0]} is not for objects, only {', '.join(READS)}: leave it out")
        self.recipe = recipe

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        with seeded(key.seed):
            options = {}
            if self.recipe.short_side is not None:
                low, high = self.recipe.short_side
                side = int(torch.randint(low, high + 1, ()))
                options["size"] = dict(self.processor.size) | {"shortest_edge": side}
            is_flipped = bool(torch.rand(()) < self.recipe.flip)
        sample = self.sample(key.index, **options)
        return flipped(sample) if is_flipped else sample


def flipped(sample: dict[str, Any]) -> dict[str, Any]:
    """Return an image with objects mirrored, left for right."""
    pixel_values, objects = sample["pixel_values"], sample["objects"]
    width = pixel_values.shape[-1]
    left, top, right, bottom = objects["boxes"].unbind(1)
    mirrored = {"boxes": torch.stack([width - right, top, width - left, bottom], dim=1)}
    if "masks" in objects:
        mirrored["masks"] = objects["masks"].flip(-1)
    return {"pixel_values": pixel_values.flip(-1), "objects": objects | mirrored}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch: pixel_values and pixel_mask, padded right and below; labels, a list; and index, where it is."""
    height, width = (max(sample["pixel_values"].shape[axis] for sample in samples) for axis in (-2, -1))
    images, masks, labels = [], [], []
    for sample in samples:
        image, objects = sample["pixel_values"], sample["objects"]
        padding = (0, width - image.shape[-1], 0, height - image.shape[-2])
        images.append(pad(image, padding))
        masks.append(pad(torch.ones(image.shape[-2:], dtype=torch.int64), padding))
        labels.append(objects | ({"masks": pad(objects["masks"], padding)} if "masks" in objects else {}))
    batch = {"pixel_values": torch.stack(images), "pixel_mask": torch.stack(masks), "labels": labels}
    if "index" in samples[0]:
        batch["index"] = torch.tensor([sample["index"] for sample in samples])
    return batch
