"""Augmentation of one image or clip: crop, flip, RandAugment, jitter, normalisation, erasing."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

from hf_vits.processing.settings import channel_values
from hf_vits.recipe import AugmentationRecipe

from .clip_augmentation import ClipRandAugment
from .randaugment import RandAugment


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
    steps.append(Normalization(processor))
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
        crop = ClippedResizedCrop if recipe.crop_clipped else ResizedCrop
        return crop(size, scale=recipe.crop_scale, ratio=recipe.crop_ratio, interpolation=interpolation)
    if recipe.crop_padding is not None:
        crop = transforms.RandomCrop(size, padding=recipe.crop_padding, padding_mode="reflect", pad_if_needed=True)
        return transforms.Compose([transforms.Resize(min(size), interpolation=interpolation), crop])
    if recipe.short_side is not None:
        low, high = recipe.short_side
        crop = transforms.RandomCrop(size, pad_if_needed=True)
        return transforms.Compose([transforms.RandomResize(low, high + 1, interpolation=interpolation), crop])
    return transforms.Resize(size, interpolation=interpolation)


class ResizedCrop(transforms.RandomResizedCrop):
    """torchvision's random resized crop, which resizes PIL images by PyTorch's kernel for 8-bit images.

    That takes a fourth of Pillow's time, and differs from it by up to 2 of 255 levels.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        has_kernel = self.interpolation in ("bilinear", "bicubic", Resampling.BILINEAR, Resampling.BICUBIC)
        if not has_kernel or not isinstance(inpt, Image.Image) or inpt.mode not in ("L", "RGB"):
            return super().transform(inpt, params)
        top, left, height, width = (params[name] for name in ("top", "left", "height", "width"))
        cropped = np.array(inpt.crop((left, top, left + width, top + height)))
        pixels = torch.from_numpy(cropped).view(height, width, -1).movedim(-1, 0)
        resized = transforms.functional.resize(pixels, self.size, self.interpolation).movedim(0, -1)
        return Image.fromarray(resized.numpy() if inpt.mode == "RGB" else resized[..., 0].numpy())


class ClippedResizedCrop(ResizedCrop):
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


class Normalization(transforms.Transform):
    """The last steps of an image processor, rescaling and normalisation.

    It takes PIL images and tensors (..., channels, height, width).
    """

    def __init__(self, processor):
        super().__init__()
        self.factor = processor.rescale_factor if processor.do_rescale else 1.0
        self.mean, self.std = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        if processor.do_normalize:
            self.mean, self.std = (
                torch.tensor(channel_values(values), dtype=torch.float32).view(-1, 1, 1)
                for values in (processor.image_mean, processor.image_std)
            )

    def transform(self, inpt: Image.Image | torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        if isinstance(inpt, Image.Image):
            levels = np.array(inpt).reshape(inpt.height, inpt.width, -1)
            # Contiguous, since all that follows takes several times as long on channels that lie side by side.
            inpt = torch.from_numpy(levels.transpose(2, 0, 1).copy())
        return (inpt * self.factor).sub_(self.mean).div_(self.std)
