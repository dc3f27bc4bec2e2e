"""Data sets of images with objects, and batches of images of different sizes."""

from typing import Any

import torch
from PIL import Image
from torch.nn.functional import pad
from torch.utils.data import Dataset

from hf_vits.data.splits import Split
from hf_vits.processing.opening import to_mode
from hf_vits.recipe import AugmentationRecipe

from .batches import SampleKey
from .object_augmentation import cut_out, flipped, pasted
from .randomness import seeded

# Settings of a recipe's augmentation that apply to images with objects.
READS = ("short_side", "flip", "scale_jitter", "copy_paste", "repeats")
# What a model takes of an image's objects.
KEPT = ("boxes", "class_labels", "masks")
# What is beyond an image that is smaller than the square of scale_jitter, as in detectron2's FixedSizeCrop.
_GREY = 128


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
        image, label = to_mode(self.split.inputs[index], self.mode), self.split.labels[index]
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

    The shorter side is drawn uniformly from `short_side`; images are mirrored with the probability `flip`. With
    `scale_jitter` the image is resized by a random factor, and a random square of it is cut out; with `copy_paste`
    objects of another such image are then pasted.

    Raises ValueError where the recipe asks for another augmentation.
    """

    def __init__(self, split: Split, processor, mode: str, needs_masks: bool, recipe: AugmentationRecipe):
        super().__init__(split, processor, mode, needs_masks)
        plain = AugmentationRecipe()
        changed = [name for name, value in vars(recipe).items() if value != getattr(plain, name)]
        if others := [name for name in changed if name not in READS]:
            raise ValueError(f"augmentation.{others[0]} is not for objects, only {', '.join(READS)}: leave it out")
        if recipe.copy_paste and not needs_masks:
            raise ValueError("augmentation.copy_paste cuts objects out by their masks: take a model that has masks")
        if recipe.copy_paste and recipe.scale_jitter is None:
            raise ValueError("augmentation.copy_paste needs images of one size: set augmentation.scale_jitter too")
        self.recipe = recipe
        self.colour = self.processed(Image.new("RGB", (1, 1), (_GREY,) * 3)) if recipe.scale_jitter else None

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        with seeded(key.seed):
            sample = self.draw(key.index)
            if self.recipe.copy_paste and torch.rand(()) < self.recipe.copy_paste:
                other = self.draw(int(torch.randint(len(self), ())))
                count = len(other["objects"]["boxes"])
                sample = pasted(sample, other, torch.rand(count) < torch.rand(()))
        return sample

    def processed(self, image: Image.Image) -> torch.Tensor:
        """Return the colour (channels,) that the processor makes of an image of one colour."""
        made = self.processor(to_mode(image, self.mode), do_resize=False, size_divisor=None, return_tensors="pt")
        return made["pixel_values"][0, :, 0, 0]

    def draw(self, index: int) -> dict[str, Any]:
        """Return an image with objects in a random size and part, mirrored or not."""
        options, jitter = {}, self.recipe.scale_jitter
        if self.recipe.short_side is not None:
            low, high = self.recipe.short_side
            side = int(torch.randint(low, high + 1, ()))
            options["size"] = dict(self.processor.size) | {"shortest_edge": side}
        if jitter is not None:
            low, high = jitter.scale
            side = max(round(jitter.side * float(torch.empty(()).uniform_(low, high))), 1)
            options["size"] = {"shortest_edge": side, "longest_edge": side}
        places, is_flipped = torch.rand(2), bool(torch.rand(()) < self.recipe.flip)
        sample = self.sample(index, **options)
        if jitter is not None:
            sizes = sample["pixel_values"].shape[-2:]
            spare = (max(size - jitter.side, 0) for size in sizes)
            top, left = (round(size * float(place)) for size, place in zip(spare, places, strict=True))
            sample = cut_out(sample, top, left, jitter.side, self.colour)
        return flipped(sample) if is_flipped else sample


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
