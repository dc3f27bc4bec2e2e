"""Attention maps of a class token."""

import torch
from torch import Tensor


@torch.no_grad()
def attended_region(attention: Tensor, fraction: float) -> Tensor:
    """Return the smallest set of places that holds at least a fraction of the attention.

    Source: the thresholded attention maps of facebookresearch/dino, visualize_attention.py (`threshold`).

    Example: `attended_region(heads.flatten(2), 0.6).unflatten(2, grid)` for heads (images, heads, rows, columns).

    Args:
        attention: (..., places), not negative, such as the class token's attention to patches.
        fraction: of the attention's sum over places, from 0 to 1.

    Returns:
        Booleans of the same shape, True in the region.

    Raises:
        ValueError: the fraction lies outside 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    sorted_attention, order = attention.sort(dim=-1)
    mass = sorted_attention / sorted_attention.sum(dim=-1, keepdim=True)
    kept = mass.cumsum(dim=-1) > 1 - fraction
    return torch.zeros_like(kept).scatter_(-1, order, kept)
