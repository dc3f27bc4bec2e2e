"""RandAugment (arXiv 1909.13719) of one image or clip, with the operations of torchvision.

Of PIL images, the operations that torchvision leaves to slower functions of Pillow are computed here, to the same
pixels: those that map each level to another one by a table, and translation and sharpness.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageStat
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms

# The paper gives magnitudes up to 10; finer steps let the magnitude vary by less than one.
_MAGNITUDE_STEPS = 10
_LEVELS = np.arange(256)


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
        self._AUGMENTATION_SPACE = {
            name: (cache(magnitudes), signed) for name, (magnitudes, signed) in self._AUGMENTATION_SPACE.items()
        }

    def forward(self, *inputs: Any) -> Any:
        magnitude = self.mean + self.std * float(torch.randn(()))
        self.magnitude = round(min(max(magnitude, 0.0), 10.0) * _MAGNITUDE_STEPS)
        return super().forward(*inputs)

    def _apply_image_or_video_transform(
        self, image: Any, transform_id: str, magnitude: float, interpolation: Any, fill: Any
    ) -> Any:
        if isinstance(image, Image.Image) and image.mode in ("L", "RGB"):
            if transform_id in TABLES:
                return image.point(TABLES[transform_id](image, magnitude))
            if transform_id == "Sharpness":
                return Image.blend(smoothed(image), image, 1 + magnitude)
            if transform_id.startswith("Translate"):  # by whole pixels
                interpolation = InterpolationMode.NEAREST
        return super()._apply_image_or_video_transform(image, transform_id, magnitude, interpolation, fill)


def brightness(image: Image.Image, magnitude: float) -> list[int]:
    """Return the table of `ImageEnhance.Brightness`."""
    return blended(0, 1 + magnitude, len(image.getbands()))


def blended(start: int, factor: float, channels: int) -> list[int]:
    """Return the table of `Image.blend` of a constant level and an image."""
    levels = np.float32(start) + np.float32(factor) * (_LEVELS - start).astype(np.float32)
    return levels.clip(0, 255).astype(np.uint8).tolist() * channels


def contrast(image: Image.Image, magnitude: float) -> list[int]:
    """Return the table of `ImageEnhance.Contrast`: each level's distance to the image's mean grey grows."""
    mean = int(ImageStat.Stat(image.convert("L")).mean[0] + 0.5)
    return blended(mean, 1 + magnitude, len(image.getbands()))


def posterize(image: Image.Image, magnitude: float) -> list[int]:
    """Return the table of `ImageOps.posterize`: the highest `magnitude` bits of each level remain."""
    return (_LEVELS & (256 - 2 ** (8 - int(magnitude)))).tolist() * len(image.getbands())


def solarize(image: Image.Image, magnitude: float) -> list[int]:
    """Return the table of `ImageOps.solarize`: levels from 255 * `magnitude` on are inverted."""
    return np.where(255.0 * magnitude > _LEVELS, _LEVELS, 255 - _LEVELS).tolist() * len(image.getbands())


def autocontrast(image: Image.Image, magnitude: float) -> list[int]:
    """Return the table of `ImageOps.autocontrast`: the lowest level of each channel becomes 0, the highest 255."""
    tables = []
    for counts in _histograms(image):
        present = np.flatnonzero(counts)
        low, high = present[0], present[-1]
        scale = 255.0 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        tables.append((_LEVELS * scale + offset).clip(0, 255).astype(np.uint8))
    return np.concatenate(tables).tolist()


def equalize(image: Image.Image, magnitude: float) -> list[int]:
    """Return the table of `ImageOps.equalize`: the levels of each channel become equally frequent."""
    tables = []
    for counts in _histograms(image):
        present = counts[counts > 0]
        step = (present.sum() - present[-1]) // 255
        below = np.cumsum(counts) - counts
        tables.append(((step // 2 + below) // step).clip(0, 255) if len(present) > 1 and step else _LEVELS)
    return np.concatenate(tables).tolist()


def _histograms(image: Image.Image) -> np.ndarray:
    """Return how often each level is in each channel (channels, 256)."""
    return np.array(image.histogram()).reshape(-1, 256)


# Operations that map each level to another one: functions of an image and a magnitude to Pillow's table.
TABLES: dict[str, Callable[[Image.Image, float], list[int]]] = {
    "Brightness": brightness,
    "Contrast": contrast,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": autocontrast,
    "Equalize": equalize,
}


def smoothed(image: Image.Image) -> Image.Image:
    """Return `image.filter(ImageFilter.SMOOTH)`: each pixel the mean of its 3x3 pixels, itself counted five times."""
    levels = np.asarray(image)
    if min(levels.shape[:2]) < 3:
        return image
    wide = levels.astype(np.uint16)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * wide[1:-1, 1:-1]
    smooth = levels.copy()
    smooth[1:-1, 1:-1] = (2 * total + 13) // 26  # rounded
    return Image.fromarray(smooth)
