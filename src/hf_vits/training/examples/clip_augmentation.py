"""RandAugment for clips as in google-research/scenic for ViViT: colour operations and Cutout, no geometry.

Sources: scenic/dataset_lib/video_ops.py (`distort_image_with_randaugment`) and tensorflow/models,
official/vision/image_classification/augment.py. Magnitudes may exceed 10, the usual maximum: 20 is twice as strong.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import functional

_CUTOUT = 40  # half a side of the square at magnitude 10, in pixels


class ClipRandAugment(transforms.Transform):
    """Applies operations drawn at random with equal probability, each the same to all frames.

    Args:
        ops: number of operations, one after the other.
        magnitude: of all of them, 0 to 20.
    """

    def __init__(self, ops: int, magnitude: float):
        super().__init__()
        self.ops, self.level = ops, magnitude / 10

    def forward(self, clip: Tensor) -> Tensor:
        """Augment a clip (frames, 3, height, width) of uint8; the result has the same shape and type."""
        frames = len(clip)
        # As in the original, frames are joined to one tall image, so that statistics over pixels cover all frames.
        image = clip.transpose(0, 1).flatten(1, 2)
        for _ in range(self.ops):
            operation = OPERATIONS[int(torch.randint(len(OPERATIONS), ()))]
            image = cut_out(image, self.level, frames) if operation is cut_out else operation(image, self.level)
        return image.unflatten(1, (frames, -1)).transpose(0, 1)


def enhancement(level: float) -> float:
    """Return the factor of saturation, brightness, sharpness or contrast at a level; it only grows with the level."""
    return 1.8 * level + 0.1


def contrast(image: Tensor, level: float) -> Tensor:
    """Scale differences to a grey level: the original takes pixels / 256, at most 255, so white but for tiny clips."""
    grey = min(image[0].numel() // 256, 255)
    return (grey + enhancement(level) * (image.float() - grey)).clamp(0, 255).byte()


def posterize(image: Tensor, level: float) -> Tensor:
    """Reduce the bits of each channel; a smaller level keeps fewer."""
    return functional.posterize(image, min(int(4 * level), 8))


def solarize(image: Tensor, level: float) -> Tensor:
    """Invert values at and above 256 * level, modulo 256 as the original's byte overflows."""
    return torch.where(image < int(256 * level) % 256, image, 255 - image)


def solarize_add(image: Tensor, level: float) -> Tensor:
    """Brighten values below 128 by 110 * level."""
    return torch.where(image < 128, (image.int() + int(110 * level)).clamp(max=255).byte(), image)


def cut_out(image: Tensor, level: float, frames: int) -> Tensor:
    """Fill a square at a random centre with black, at the same place in every frame and clipped to it."""
    clip = image.unflatten(1, (frames, -1)).clone()
    half = int(_CUTOUT * level)
    rows, columns = (
        slice(max(centre - half, 0), centre + half) for centre in (int(torch.randint(n, ())) for n in clip.shape[-2:])
    )
    clip[..., rows, columns] = 0
    return clip.flatten(1, 2)


OPERATIONS: tuple[Callable, ...] = (
    lambda image, level: image,
    lambda image, level: functional.autocontrast(image),
    lambda image, level: functional.equalize(image),
    lambda image, level: functional.invert(image),
    lambda image, level: functional.adjust_saturation(image, enhancement(level)),
    lambda image, level: functional.adjust_brightness(image, enhancement(level)),
    lambda image, level: functional.adjust_sharpness(image, enhancement(level)),
    contrast,
    posterize,
    solarize,
    solarize_add,
    cut_out,
)
