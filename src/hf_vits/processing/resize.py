"""Image resizing as Pillow and TensorFlow compute it, bit for bit.

Originals in PyTorch resize with Pillow, those in TensorFlow and JAX with `tf.image.resize`. torchvision's tensor
kernels differ from both: on photographs by up to 2 of 255 levels from Pillow (up to 22 in float), and enough from
TensorFlow to change levels when big_vision truncates to integers.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image


def pillow_resize(image: torch.Tensor, size: tuple[int, int], resample: Image.Resampling) -> torch.Tensor:
    """Resize 8-bit images with Pillow.

    image: (..., height, width), uint8 on the CPU; size: (height, width). Returns (..., *size), uint8.
    """
    height, width = size
    if image.ndim > 2 and image.shape[-3] == 3:
        pictures = image.reshape(-1, *image.shape[-3:]).movedim(1, -1).numpy()
    else:  # plane by plane, because Pillow supports few numbers of channels and weights RGBA by alpha
        pictures = image.reshape(-1, *image.shape[-2:]).numpy()
    resized = (Image.fromarray(picture).resize((width, height), resample) for picture in pictures)
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in resized]))
    return (pixels.movedim(-1, 1) if pixels.ndim == 4 else pixels).reshape(*image.shape[:-2], height, width)


def tensorflow_bilinear(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Compute `tf.image.resize(image, size, "bilinear", antialias=False)` for an image (..., height, width).

    Returns (..., *size), float32. Source: tensorflow/core/kernels/image/resize_bilinear_op.cc.
    """
    image = _interpolate_axis(image.to(torch.float32), size[1], dim=-1)
    return _interpolate_axis(image, size[0], dim=-2)


def tensorflow_area(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Compute `tf.image.resize(image, size, "area")` for an image (..., height, width).

    Each output pixel is the mean over its rectangle of the input, with pixels on the border weighted by the part
    inside. Pillow's BOX and adaptive average pooling count whole pixels, so they are equal only if the sizes divide.
    Returns (..., *size), float32. Source: tensorflow/core/kernels/image/resize_area_op.cc.
    """
    in_height, in_width = image.shape[-2:]
    area = _scale(in_height, size[0]) * _scale(in_width, size[1])
    image = _sum_axis(image.to(torch.float32), size[1], dim=-1)
    return _sum_axis(image, size[0], dim=-2) * float(np.float32(1.0 / float(area)))


def _scale(in_size: int, out_size: int) -> np.float32:
    return np.float32(in_size) / np.float32(out_size)


def _interpolate_axis(image: torch.Tensor, out_size: int, dim: int) -> torch.Tensor:
    in_size = image.shape[dim]
    position = (np.arange(out_size, dtype=np.float32) + np.float32(0.5)) * _scale(in_size, out_size) - np.float32(0.5)
    below = np.floor(position)
    first, second = _take(image, below, dim), _take(image, np.ceil(position), dim)
    return first + (second - first) * _along(position - below, image, dim)


def _sum_axis(image: torch.Tensor, out_size: int, dim: int) -> torch.Tensor:
    """Sum the input pixels of each output pixel, weighted by the part covered, in TensorFlow's order of addition."""
    scale = _scale(image.shape[dim], out_size)
    start = np.arange(out_size, dtype=np.float32) * scale
    stop = np.arange(1, out_size + 1, dtype=np.float32) * scale
    first, last = np.floor(start), np.ceil(stop)
    total: Any = 0.0
    for offset in range(int((last - first).max())):
        pixel = first + np.float32(offset)
        covered = np.where(
            pixel < start,
            np.where(pixel + 1 > stop, scale, pixel + 1 - start),
            np.where(pixel + 1 > stop, stop - pixel, np.float32(1)),
        )
        weight = np.where(pixel < last, covered, np.float32(0))
        total = _take(image, pixel, dim).mul_(_along(weight, image, dim)).add_(total)
    return total


def _take(image: torch.Tensor, index: np.ndarray, dim: int) -> torch.Tensor:
    """Copy the pixels at `index`, clipped to the image, along axis `dim` (-1 or -2)."""
    places = torch.from_numpy(index.clip(0, image.shape[dim] - 1).astype(np.int64)).to(image.device)
    if dim == -1:  # several times faster than index_select, which is faster for whole rows
        return image.gather(-1, places.expand(*image.shape[:-1], -1))
    return image.index_select(dim, places)


def _along(values: np.ndarray, image: torch.Tensor, dim: int) -> torch.Tensor:
    """Shape `values` along axis `dim` (-1 or -2) to broadcast over an image (..., height, width)."""
    tensor = torch.from_numpy(values).to(image.device)
    return tensor if dim == -1 else tensor[:, None]
