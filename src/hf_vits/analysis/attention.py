"""Attention maps of a class token."""

import torch
from torch import Tensor

from hf_vits.layers.foreground import attended_region, foreground_mask


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


__all__ = ["attended_region", "foreground_mask", "region_overlap"]
