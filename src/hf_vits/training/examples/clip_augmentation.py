"""RandAugment of clips as google-research/scenic has it for ViViT: colours alone, and a square cut out.

Sources: scenic/dataset_lib/video_ops.py (`distort_image_with_randaugment`) and tensorflow/models,
official/vision/image_classification/augment.py. Magnitudes go on above 10, where the others end: 20 is twice as much.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import functional

_CUTOUT = 40  # half a side of the square at magnitude 10, in pixels


class ClipRandAugment(transforms.Transform):
    """So many operations one after the other, drawn with equal chances, each the same for all frames.

    Args:
        ops: how many.
        magnitude: of all of them, 0 to 20.
    """

    def __init__(self, ops: int, magnitude: float):
        super().__init__()
        self.ops, self.level = ops, magnitude / 10

    def forward(self, clip: Tensor) -> Tensor:
        """(frames, 3, height, width) of uint8 to the same."""
        frames = len(clip)
        # As in the original one image, frame below frame, so that what depends on all pixels is the same for all.
        image = clip.transpose(0, 1).flatten(1, 2)
        for _ in range(self.ops):
            operation = OPERATIONS[int(torch.randint(len(OPERATIONS), ()))]
            image = cut_out(image, self.level, frames) if operation is cut_out else operation(image, self.level)
        return image.unflatten(1, (frames, -1)).transpose(0, 1)


def enhancement(level: float) -> float:
    """Factor of what is enhanced; unlike the others' it only grows with the magnitude."""
    return 1.8 * level + 0.1


def contrast(image: Tensor, level: float) -> Tensor:
    """Away from a grey level, which in the original is a 256th of the number of pixels: white, but for tiny clips."""
    grey = min(image[0].numel() // 256, 255)
    return (grey + enhancement(level) * (image.float() - grey)).clamp(0, 255).byte()


def posterize(image: Tensor, level: float) -> Tensor:
    """Fewer bits the smaller the magnitude."""
    return functional.posterize(image, min(int(4 * level), 8))


def solarize(image: Tensor, level: float) -> Tensor:
    """Bright levels turned around; the limit wraps around at 256, as a byte does."""
    return torch.where(image < int(256 * level) % 256, image, 255 - image)


def solarize_add(image: Tensor, level: float) -> Tensor:
    return torch.where(image < 128, (image.int() + int(110 * level)).clamp(max=255).byte(), image)


def cut_out(image: Tensor, level: float, frames: int) -> Tensor:
    """A black square anywhere, the part of it that lies in the frame, at the same place in every frame."""
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
