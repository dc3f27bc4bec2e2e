"""Augmentation of one image or clip: crop, flip, RandAugment, jitter, normalisation, erasing."""

from typing import Any

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from hf_vits.processing.settings import channel_values
from hf_vits.recipe import AugmentationRecipe

from .clip_augmentation import ClipRandAugment

# RandAugment's papers give magnitudes up to 10; finer steps let the magnitude vary by less than one.
_MAGNITUDE_STEPS = 10


def training_transform(recipe: AugmentationRecipe, processor, size: tuple[int, int]) -> transforms.Transform:
    """Return the training transform: PIL image to a float tensor (channels, *size), normalised as by `processor`.

    It takes clips (frames, channels, height, width) of uint8 too, and then draws once for all frames.

    Raises ValueError for augmentation of objects.
    """
    for name in ("scale_jitter", "copy_paste"):
        if getattr(recipe, name):
            raise ValueError(f"augmentation.{name} is for the task object-detection alone: leave it out")
    fill = [round(255 * mean) for mean in channel_values(processor.image_mean)] if processor.do_normalize else 0
    steps = [_resize(recipe, size, recipe.interpolation or processor.resample)]
    steps += flip_and_affine(recipe, fill=0)
    if randaugment := recipe.randaugment:
        if randaugment.policy == "scenic":
            steps.append(ClipRandAugment(randaugment.ops, randaugment.magnitude))
        else:
            steps.append(RandAugment(randaugment.ops, randaugment.magnitude, randaugment.std, fill=fill))
    if recipe.three_augment:
        steps.append(three_augment())
    steps += jitter_and_grey(recipe)
    steps += [transforms.PILToTensor(), *normalization(processor)]
    if recipe.erasing:
        steps.append(transforms.RandomErasing(recipe.erasing, value="random"))
    return transforms.Compose(steps)


def flip_and_affine(recipe: AugmentationRecipe, fill: Any) -> list[transforms.Transform]:
    """Return the recipe's flip and affine transform; `fill` is what comes in from outside the image."""
    steps: list[transforms.Transform] = []
    if recipe.flip:
        steps.append(transforms.RandomHorizontalFlip(recipe.flip))
    if affine := recipe.affine:
        steps.append(
            transforms.RandomAffine(
                degrees=affine.degrees,
                translate=(affine.translate, affine.translate),
                scale=(1 - affine.scale, 1 + affine.scale),
                shear=affine.shear,
                interpolation=InterpolationMode.BILINEAR,
                fill=fill,
            )
        )
    return steps


def jitter_and_grey(recipe: AugmentationRecipe) -> list[transforms.Transform]:
    """Return the recipe's colour jitter and random grey."""
    steps: list[transforms.Transform] = []
    if strength := recipe.color_jitter:
        steps.append(transforms.ColorJitter(brightness=strength, contrast=strength, saturation=strength))
    if recipe.grey:
        steps.append(transforms.RandomGrayscale(recipe.grey))
    return steps


def _resize(recipe: AugmentationRecipe, size: tuple[int, int], interpolation: Any) -> transforms.Transform:
    """Return the transform of any image to `size`: one of the recipe's random crops, or a plain resize."""
    if interpolation == "random":
        return transforms.RandomChoice([_resize(recipe, size, name) for name in ("bilinear", "bicubic")])
    if recipe.crop_scale is not None:
        crop = ClippedResizedCrop if recipe.crop_clipped else transforms.RandomResizedCrop
        return crop(size, scale=recipe.crop_scale, ratio=recipe.crop_ratio, interpolation=interpolation)
    if recipe.crop_padding is not None:
        crop = transforms.RandomCrop(size, padding=recipe.crop_padding, padding_mode="reflect", pad_if_needed=True)
        return transforms.Compose([transforms.Resize(min(size), interpolation=interpolation), crop])
    if recipe.short_side is not None:
        low, high = recipe.short_side
        crop = transforms.RandomCrop(size, pad_if_needed=True)
        return transforms.Compose([transforms.RandomResize(low, high + 1, interpolation=interpolation), crop])
    return transforms.Resize(size, interpolation=interpolation)


class ClippedResizedCrop(transforms.RandomResizedCrop):
    """Random resized crop that is drawn once and clipped to the image, whatever aspect ratio remains.

    torchvision's draws again until the crop fits. Source: facebookresearch/mae, util/crop.py, after BYOL.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = transforms.functional.get_size(flat_inputs[0])
        area = height * width * torch.empty(1).uniform_(*self.scale).item()
        ratio = torch.empty(1).uniform_(*torch.tensor(self.ratio).log().tolist()).exp().item()
        cropped_width = min(round((area * ratio) ** 0.5), width)
        cropped_height = min(round((area / ratio) ** 0.5), height)
        top = torch.randint(0, height - cropped_height + 1, size=(1,)).item()
        left = torch.randint(0, width - cropped_width + 1, size=(1,)).item()
        return {"top": top, "left": left, "height": cropped_height, "width": cropped_width}


class RandAugment(transforms.RandAugment):
    """torchvision's RandAugment with a magnitude drawn for each image, normal around `magnitude`, from 0 to 10.

    timm calls this policy rand-m<magnitude>-mstd<std>-inc1; all of torchvision's operations grow with magnitude.
    """

    def __init__(self, ops: int, magnitude: float, std: float, fill: Any = None):
        super().__init__(
            num_ops=ops,
            num_magnitude_bins=10 * _MAGNITUDE_STEPS + 1,
            interpolation=InterpolationMode.BILINEAR,
            fill=fill,
        )
        self.mean, self.std = magnitude, std

    def forward(self, *inputs: Any) -> Any:
        magnitude = self.mean + self.std * float(torch.randn(()))
        self.magnitude = round(min(max(magnitude, 0.0), 10.0) * _MAGNITUDE_STEPS)
        return super().forward(*inputs)


def three_augment() -> transforms.Transform:
    """Return DeiT III's choice of grey, solarize and blur, equally likely (facebookresearch/deit, augment.py)."""
    return transforms.RandomChoice(
        [
            transforms.RandomGrayscale(p=1.0),
            transforms.RandomSolarize(threshold=128, p=1.0),
            gaussian_blur(),
        ]
    )


def gaussian_blur() -> transforms.Transform:
    """Return the blur of DINO and DeiT III: PIL's radius from 0.1 to 2, which is the standard deviation in pixels."""
    return transforms.GaussianBlur(kernel_size=13, sigma=(0.1, 2.0))


def normalization(processor) -> list[transforms.Transform]:
    """Return the image processor's last steps, rescaling and normalisation, for (..., channels, height, width)."""
    steps: list[transforms.Transform] = [transforms.ToDtype(torch.float32)]
    if processor.do_rescale:
        steps.append(_Scale(processor.rescale_factor))
    if processor.do_normalize:
        mean, std = map(channel_values, (processor.image_mean, processor.image_std))
        steps.append(transforms.Normalize(mean, std, inplace=True))  # of a copy, which ToDtype made
    return steps


class _Scale(transforms.Transform):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        return inpt * self.factor
