"""Dense features of large images, computed window by window for models of one input size.

Source: Walmer et al., arXiv 2212.03862 (mwalmer-umd/vit_analysis, meta_utils/dense_extractor.py).
"""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def tiled_size(size: tuple[int, int], window: int = 224, factor: float = 2, patch_size: int = 16) -> tuple[int, int]:
    """Return the (width, height) to which an image is resized.

    The shorter side becomes `factor` windows; the longer one keeps the aspect ratio, rounded down to whole patches.

    Args:
        size: (width, height) of the image.
    """
    width, height = size
    short = int(window * factor)
    if width < height:
        return short, int(short / width * height // patch_size * patch_size)
    return int(short / height * width // patch_size * patch_size), short


def tile_origins(size: tuple[int, int], window: int = 224) -> list[tuple[int, int]]:
    """Return the (top, left) of the windows that cover an image (width, height); the last ones are moved inside."""
    tops, lefts = (
        [min(start, max(length - window, 0)) for start in range(0, length, window)] for length in (size[1], size[0])
    )
    return [(top, left) for top in tops for left in lefts]


def tiled_features(
    image: Image.Image,
    encode: Callable[[list[np.ndarray]], Tensor],
    window: int = 224,
    factor: float = 2,
    patch_size: int = 16,
    batch_size: int = 4,
) -> Tensor:
    """Return features (layers, rows, columns, channels) of an image, computed window by window.

    Where windows overlap the first one counts.

    Args:
        encode: maps windows, each (window, window, 3) of bytes, to features (layers, windows, patches, channels).
        window, factor, patch_size: as in `tiled_size`.
        batch_size: windows at a time.
    """
    width, height = tiled_size(image.size, window, factor, patch_size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    origins = tile_origins((width, height), window)
    windows = [pixels[top : top + window, left : left + window] for top, left in origins]
    parts = [encode(windows[start : start + batch_size]) for start in range(0, len(windows), batch_size)]
    features = torch.cat(parts, dim=1)
    side = window // patch_size
    rows, columns = height // patch_size, width // patch_size
    result = features.new_zeros(len(features), rows, columns, features.shape[-1])
    for index in reversed(range(len(origins))):  # so that the first window is written last
        top, left = (place // patch_size for place in origins[index])
        result[:, top : top + side, left : left + side] = features[:, index].unflatten(1, (side, side))
    return result
