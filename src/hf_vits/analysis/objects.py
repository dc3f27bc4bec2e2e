"""Objects on the token grid: soft masks, features pooled under them, and dense features of large images by tiles.

Walmer et al., "Teaching Matters", arXiv 2212.03862 (mwalmer-umd/vit_analysis: run_seg_analysis.py,
meta_utils/dense_extractor.py).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def centre_square(mask: np.ndarray) -> np.ndarray:
    """Return the centre of a mask (height, width) as a square."""
    side = min(mask.shape)
    top, left = ((size - side) // 2 for size in mask.shape)
    return mask[top : top + side, left : left + side]


def token_mask(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray | None:
    """Return a mask (height, width) of bool on a grid (rows, columns), as weights of sum 1; None where it is empty.

    Bytes of 0 and 255 are resized bicubically, so that the weights are soft and objects slightly dilated.
    """
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    weights = np.asarray(image.resize(grid[::-1], Image.Resampling.BICUBIC)).astype(np.float64)
    total = weights.sum()
    return weights / total if total else None


def union(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return where any of several masks of weights is positive, bool."""
    return np.any(np.stack(masks) > 0, axis=0)


def pool_objects(features: Tensor, masks: Tensor, num_prefix_tokens: int = 1) -> Tensor:
    """Return the mean features (objects, layers, channels) of patches under masks (objects, rows, columns) of sum 1.

    Args:
        features: (layers, tokens, channels), prefix tokens first.
    """
    return torch.einsum("op,lpc->olc", masks.flatten(1).to(features), features[:, num_prefix_tokens:])


class Tiles(NamedTuple):
    """An image cut into windows.

    Attributes:
        image: the whole image, resized, (height, width, 3) of uint8.
        windows: parts of it.
        origins: (row, column) in pixels of the first pixel of each window.
    """

    image: np.ndarray
    windows: list[np.ndarray]
    origins: list[tuple[int, int]]


def cut(image: Image.Image, window: int = 224, factor: float = 2, patch_size: int = 16) -> Tiles:
    """Resize an image so that its short side is `factor` windows, and cut it into windows side by side.

    The long side is rounded down to a multiple of the patch size; the last window of a row or column lies inside the
    image and overlaps the one before.
    """
    width, height = image.size
    short = int(window * factor)
    long = int(short / min(image.size) * max(image.size) // patch_size * patch_size)
    size = (short, long) if width < height else (long, short)
    resized = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    counts = [math.ceil(side / window) for side in resized.shape[:2]]
    origins = [
        (
            min(row * window, max(resized.shape[0] - window, 0)),
            min(column * window, max(resized.shape[1] - window, 0)),
        )
        for row in range(counts[0])
        for column in range(counts[1])
    ]
    return Tiles(resized, [resized[top : top + window, left : left + window] for top, left in origins], origins)


@torch.no_grad()
def tiled_features(
    encode: Callable[[list[np.ndarray]], Tensor], tiles: Tiles, patch_size: int, batch_size: int = 4
) -> Tensor:
    """Return the features (layers, rows, columns, channels) of a whole image from those of its windows.

    Where windows overlap, the first one counts.

    Args:
        encode: maps windows to features (layers, windows, rows, columns, channels).
    """
    rows, columns = (side // patch_size for side in tiles.image.shape[:2])
    whole, empty = torch.empty(0), torch.ones(rows, columns, dtype=torch.bool)
    for start in range(0, len(tiles.windows), batch_size):
        found = encode(tiles.windows[start : start + batch_size])
        if not whole.numel():
            whole = found.new_zeros(len(found), rows, columns, found.shape[-1])
        for (top, left), features in zip(tiles.origins[start : start + batch_size], found.unbind(1), strict=True):
            place = (
                slice(top // patch_size, top // patch_size + features.shape[1]),
                slice(left // patch_size, left // patch_size + features.shape[2]),
            )
            free = empty[place]
            whole[:, place[0], place[1]][:, free] = features[:, free]
            empty[place] = False
    return whole
