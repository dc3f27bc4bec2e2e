"""Attention maps of a class token."""

import torch
from torch import Tensor


@torch.no_grad()
def region_overlap(attention: Tensor, mask: Tensor, fraction: float = 0.6) -> Tensor:
    """Return the intersection over union of what heads attend to and a region.

    Example: `region_overlap(heads.flatten(2), lungs.flatten(1)[:, None])` for heads (images, heads, rows, columns).

    Args:
        attention: (..., places), as in `attended_region`.
        mask: booleans that broadcast to the same shape, True inside the region.
        fraction: of the attention's sum over places, as in `attended_region`.

    Returns:
        Numbers from 0 to 1, (...); 1 where both are empty.
    """
    attended, mask = attended_region(attention, fraction), mask.bool()
    union = (attended | mask).sum(dim=-1)
    return torch.where(union > 0, (attended & mask).sum(dim=-1) / union.clamp(min=1), 1.0)


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
