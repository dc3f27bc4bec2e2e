"""The part of an image that a class token attends to, as a mask of patches."""

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

_KERNEL = 7  # side of the Gaussian's kernel in patches
_SMALLEST_GRID = _KERNEL // 2 + 1  # reflect padding reaches no further


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


@torch.no_grad()
def foreground_mask(attention: Tensor, fraction: float = 0.6, sigma: float = 0.6, min_component: int = 3) -> Tensor:
    """Return the patches of the foreground by the class token's attention (Leopart, arXiv 2204.13101, section 3.2).

    The attention is blurred, the smallest region with `fraction` of it is kept, and small components are removed
    (MkuuWaUjinga/leopart, experiments/utils.py, `process_attentions`).

    Args:
        attention: (images, rows, columns), averaged over heads.
        sigma: standard deviation of the Gaussian blur in patches.
        min_component: smallest number of patches of a component that is kept; patches that touch at a corner are
            of the same component.

    Returns:
        Booleans of the same shape.

    Raises:
        ValueError: the grid is smaller than 4 x 4, or the fraction lies outside 0 to 1.
    """
    if attention.ndim != 3 or min(attention.shape[1:]) < _SMALLEST_GRID:
        raise ValueError(
            f"the foreground is found in attention maps (images, rows, columns) of at least {_SMALLEST_GRID} x "
            f"{_SMALLEST_GRID} patches, got shape {tuple(attention.shape)}: take larger images or smaller patches"
        )
    blurred = gaussian_blur(attention[:, None].float(), [_KERNEL, _KERNEL], [sigma, sigma])[:, 0]
    region = attended_region(blurred.flatten(1), fraction).view_as(attention)
    return torch.from_numpy(without_small(region.cpu().numpy(), min_component)).to(attention.device)


def without_small(masks: np.ndarray, min_component: int) -> np.ndarray:
    """Return masks (images, rows, columns) without connected components of fewer than `min_component` patches."""
    from scipy import ndimage

    neighbours = np.zeros((3, 3, 3), bool)
    neighbours[1] = True  # within an image, corners included
    labels, _ = ndimage.label(masks, neighbours)  # pyright: ignore[reportGeneralTypeIssues]
    return masks & (np.bincount(labels.ravel())[labels] >= min_component)  # pyright: ignore[reportCallIssue]


__all__ = ["attended_region", "foreground_mask"]
