"""Object masks on a model's grid of tokens, and features averaged over objects.

Source: Walmer et al., arXiv 2212.03862 (mwalmer-umd/vit_analysis, run_seg_analysis.py).
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def token_masks(
    masks: Sequence[np.ndarray], grid: tuple[int, int], center_crop: bool = False
) -> tuple[np.ndarray, list[int]]:
    """Return soft masks on the grid, (objects, rows, columns) in float64, and the indices of the objects they are of.

    Masks are resized with a bicubic filter as bytes and divided by their sum. Objects of which nothing is left, since
    they are too small or cut off, are left out.

    Args:
        masks: (height, width) of each object, not zero inside.
        center_crop: whether masks are cropped to a square first, as their image is.
    """
    kept, indices = [], []
    for index, mask in enumerate(masks):
        mask = np.asarray(mask) > 0
        if center_crop:
            side = min(mask.shape)
            top, left = ((size - side) // 2 for size in mask.shape)
            mask = mask[top : top + side, left : left + side]
        resized = Image.fromarray(mask.astype(np.uint8) * 255).resize(grid[::-1], Image.Resampling.BICUBIC)
        soft = np.asarray(resized).astype(float)
        if soft.sum() > 0:
            kept.append(soft / soft.sum())
            indices.append(index)
    return np.stack(kept) if kept else np.zeros((0, *grid)), indices


def union_mask(masks: np.ndarray) -> np.ndarray:
    """Return which tokens belong to any of the soft masks (objects, rows, columns), booleans (rows, columns)."""
    return masks.sum(axis=0) > 0


def object_features(features: Tensor, masks: Tensor) -> Tensor:
    """Return features averaged over objects, (objects, layers, channels).

    Args:
        features: patch tokens of one image, (layers, rows * columns, channels).
        masks: (objects, rows, columns), each summing up to one.
    """
    return torch.einsum("op,lpc->olc", masks.flatten(1).to(features), features)
