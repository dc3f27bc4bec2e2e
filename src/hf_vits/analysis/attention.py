"""What a class token looks at."""

import torch
from torch import Tensor


@torch.no_grad()
def heaviest(attention: Tensor, share: float) -> Tensor:
    """The fewest places, those of most attention, that hold at least a share of it.

    As DINO draws its segmentations (facebookresearch/dino, visualize_attention.py).

    Args:
        attention: (..., places), not negative.
        share: of the sum over places, 0 to 1.

    Returns:
        The same shape, boolean.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    sorted_attention, order = attention.sort(dim=-1)
    mass = sorted_attention / sorted_attention.sum(dim=-1, keepdim=True)
    kept = mass.cumsum(dim=-1) > 1 - share
    return torch.zeros_like(kept).scatter_(-1, order, kept)
