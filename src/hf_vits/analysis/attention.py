"""What attention maps say about heads: how far they look, where, and at which objects.

Walmer et al., "Teaching Matters: Investigating the Role of Supervision in Vision Transformers", arXiv 2212.03862
(mwalmer-umd/vit_analysis: analysis/attention_metrics.py, run_seg_analysis.py); Raghu et al., "Do Vision Transformers
See Like Convolutional Neural Networks?", arXiv 2108.08810; Abnar and Zuidema, "Quantifying Attention Flow in
Transformers", arXiv 2005.00928.

Maps are probabilities (..., queries, keys): first `num_prefix_tokens` prefix tokens, then patches in row-major order.
Leading axes are images, layers and heads, in this order where an axis is summed.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hf_vits.layers.foreground import attended_region, foreground_mask

Convention = Literal["unit", "pixel"]
Queries = Literal["all", "patches", "patches_only", "class"]


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


def grid_of(attention: Tensor, grid: tuple[int, int] | None, num_prefix_tokens: int) -> tuple[int, int]:
    """Return (rows, columns) of the patches of maps; ValueError where none is given and they are no square."""
    patches = attention.shape[-1] - num_prefix_tokens
    side = round(max(patches, 0) ** 0.5)
    rows, columns = grid or (side, side)
    if patches < 1 or rows * columns != patches:
        raise ValueError(
            f"attention to {attention.shape[-1]} keys, {num_prefix_tokens} of them prefix tokens, does not fit a grid "
            f"of {rows} x {columns} patches: give grid=(rows, columns)"
        )
    return rows, columns


def between_patches(attention: Tensor, num_prefix_tokens: int = 1, renormalize: bool = True) -> Tensor:
    """Return the attention of patches to patches (..., patches, patches).

    Args:
        renormalize: whether rows sum to 1 again; rows without any attention to patches stay 0.
    """
    patches = attention[..., num_prefix_tokens:, num_prefix_tokens:]
    if not renormalize:
        return patches
    total = patches.sum(dim=-1, keepdim=True)
    return patches / torch.where(total == 0, 1, total)


def patch_distances(
    grid: tuple[int, int],
    convention: Convention = "unit",
    patch_size: int = 16,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the distances (patches, patches) of the patches of a grid.

    Args:
        convention: "unit" puts the centres on a unit square, at index / (side - 1) ("Teaching Matters"); "pixel"
            multiplies the distance of the indices by `patch_size` (Raghu et al.).
    """
    axes = [torch.arange(side, dtype=dtype or torch.get_default_dtype()) for side in grid]
    if convention == "unit":
        axes = [axis / max(len(axis) - 1, 1) for axis in axes]
    places = torch.cartesian_prod(*axes) if len(axes) > 1 else axes[0][:, None]
    distances = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    return distances if convention == "unit" else distances * patch_size


def attention_distance(
    attention: Tensor,
    num_prefix_tokens: int = 1,
    grid: tuple[int, int] | None = None,
    convention: Convention = "unit",
    patch_size: int = 16,
    renormalize: bool | None = None,
) -> Tensor:
    """Return the mean distance (...) over which patches attend to patches.

    Args:
        attention: (..., queries, keys).
        convention: see `patch_distances`.
        renormalize: whether what a patch gives to prefix tokens is left out, so that rows sum to 1; otherwise it
            counts as attention at distance 0, and heads that attend to the class token look local. None for the
            convention's own: True for "unit", False for "pixel".
    """
    if renormalize is None:
        renormalize = convention == "unit"
    grid = grid_of(attention, grid, num_prefix_tokens)
    distances = patch_distances(grid, convention, patch_size, attention.dtype).to(attention.device)
    return (between_patches(attention, num_prefix_tokens, renormalize) * distances).sum(dim=-1).mean(dim=-1)


def deviation_over_queries(attention: Tensor, num_prefix_tokens: int = 1) -> Tensor:
    """Return how much the attention of patches differs between them: standard deviation, mean over keys, (...)."""
    return between_patches(attention, num_prefix_tokens, renormalize=False).std(dim=-2).mean(dim=-1)


def deviation_over_heads(attention: Tensor, num_prefix_tokens: int = 1) -> Tensor:
    """Return how much the heads of a layer differ, (..., without heads): standard deviation, mean over the rest."""
    return between_patches(attention, num_prefix_tokens, renormalize=False).std(dim=-3).mean(dim=(-2, -1))


def attention_to_token(attention: Tensor, token: int = 0, num_prefix_tokens: int = 1) -> Tensor:
    """Return the mean attention (...) of patches to one token, by default the class token.

    The original measures attention to the class token, but reads key 1, which is the first patch: `token=1`.
    """
    return attention[..., num_prefix_tokens:, token].mean(dim=-1)


def attention_on_tokens(attention: Tensor, queries: Queries = "all", num_prefix_tokens: int = 1) -> Tensor:
    """Return the mean attention (..., keys) on each token.

    Args:
        queries: "all" tokens, the "patches", the "class" token alone, or "patches_only": patches, without what they
            give to prefix tokens, whose entries are 0, renormalised.
    """
    if queries == "all":
        return attention.mean(dim=-2)
    if queries == "class":
        return attention[..., 0, :]
    if queries == "patches":
        return attention[..., num_prefix_tokens:, :].mean(dim=-2)
    if queries != "patches_only":
        raise ValueError(f"queries must be 'all', 'patches', 'patches_only' or 'class', got {queries!r}")
    mean = between_patches(attention, num_prefix_tokens).mean(dim=-2)
    return torch.cat([mean.new_zeros(*mean.shape[:-1], num_prefix_tokens), mean], dim=-1)


def deviation_over_classes(maps: Tensor) -> Tensor:
    """Return how much maps (classes, ..., keys), each a mean over a class's images, differ, (...)."""
    return maps.std(dim=0, correction=0).mean(dim=-1)


def aligned_attention(attention: Tensor, num_prefix_tokens: int = 1, grid: tuple[int, int] | None = None) -> Tensor:
    """Return the attention of patches, shifted so that each query lies at the centre, (..., 2R - 1, 2C - 1).

    Prefix tokens are left out and rows renormalised. The mean is over all queries; what lies outside of the image
    counts as 0, so that the border is under-weighted.
    """
    rows, columns = grid_of(attention, grid, num_prefix_tokens)
    maps = between_patches(attention, num_prefix_tokens).unflatten(-1, (rows, columns))
    total = maps.new_zeros(*maps.shape[:-3], 2 * rows - 1, 2 * columns - 1)
    for index in range(rows * columns):
        top, left = rows - 1 - index // columns, columns - 1 - index % columns
        total[..., top : top + rows, left : left + columns] += maps[..., index, :, :]
    return total / (rows * columns)


class Offsets(NamedTuple):
    """Where heads look from the query, as parts of half of an aligned map: 0 in the centre, 1 at its border.

    Attributes:
        distance: length of the offset, (...).
        x, y: its components, right and down.
    """

    distance: Tensor
    x: Tensor
    y: Tensor


def attention_offsets(aligned: Tensor) -> Offsets:
    """Return the centres of aligned maps (..., rows, columns), each normalised to sum 1."""
    total = aligned.sum(dim=(-2, -1), keepdim=True)
    aligned = aligned / torch.where(total > 0, total, 1)
    down, right = (
        torch.linspace(-1, 1, size, dtype=aligned.dtype, device=aligned.device) for size in aligned.shape[-2:]
    )
    y, x = (aligned.sum(dim=-1) * down).sum(dim=-1), (aligned.sum(dim=-2) * right).sum(dim=-1)
    return Offsets((x.square() + y.square()).sqrt(), x, y)


def offset_heads(aligned: Tensor, mass: float = 0.5) -> Tensor:
    """Return which heads attend to a neighbour at a fixed offset, bool (...): "offset local attention heads".

    The paper picked such heads by eye. Here a head is one if at least `mass` of its aligned map lies in the 3 x 3
    patches around its maximum, the maximum is one or two patches away from the query, and less than half of that
    lies on the query itself.

    Args:
        aligned: (..., rows, columns), see `aligned_attention`.
    """
    rows, columns = aligned.shape[-2:]
    total = aligned.sum(dim=(-2, -1))
    maps = aligned.flatten(0, -3)[:, None]
    windows = torch.nn.functional.avg_pool2d(maps, 3, stride=1, padding=1, divisor_override=1)[:, 0]
    place = maps.flatten(1).argmax(dim=1)
    around = windows.flatten(1).gather(1, place[:, None])[:, 0].view(total.shape)
    down, right = (place // columns - rows // 2).view(total.shape), (place % columns - columns // 2).view(total.shape)
    away = torch.maximum(down.abs(), right.abs())
    itself = aligned[..., rows // 2, columns // 2]
    return (around >= mass * total) & (away >= 1) & (away <= 2) & (itself < around / 2)


def rollout(attentions: Sequence[Tensor] | Tensor) -> Tensor:
    """Return attention rollout (layers, ..., queries, keys), cumulative from the first layer to each.

    Each layer's mean over heads plus the identity, normalised, is multiplied from the left.

    Args:
        attentions: (..., heads, queries, keys) of each layer.
    """
    result, rolled = None, []
    for attention in attentions:
        mean = attention.mean(dim=-3)
        mean = mean + torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
        mean = mean / mean.sum(dim=-1, keepdim=True)
        result = mean if result is None else mean @ result
        rolled.append(result)
    return torch.stack(rolled)


def centre_token(grid: tuple[int, int]) -> int:
    """Return the index among the patches of the centre of a grid; of an even side the upper or left of the two."""
    rows, columns = grid
    return (rows - 1) // 2 * columns + (columns - 1) // 2


def saliency_masks(
    attention: Tensor,
    query: Literal["class", "patches", "centre"] = "class",
    merge_heads: bool = False,
    mass: float = 0.6,
    num_prefix_tokens: int = 1,
    grid: tuple[int, int] | None = None,
) -> Tensor:
    """Return what heads attend to most, bool (..., heads or 1, rows, columns): the fewest patches that hold `mass`.

    Args:
        attention: (..., heads, queries, keys).
        query: the class token, the sum of all patches, or the patch in the centre.
        merge_heads: whether the heads of a layer are summed first.
    """
    rows, columns = grid_of(attention, grid, num_prefix_tokens)
    to_patches = attention[..., num_prefix_tokens:]
    if query == "class":
        maps = to_patches[..., 0, :]
    elif query == "patches":
        maps = to_patches[..., num_prefix_tokens:, :].sum(dim=-2)
    elif query == "centre":
        maps = to_patches[..., num_prefix_tokens + centre_token((rows, columns)), :]
    else:
        raise ValueError(f"query must be 'class', 'patches' or 'centre', got {query!r}")
    if merge_heads:
        maps = maps.sum(dim=-2, keepdim=True)
    return attended_region(maps, mass).unflatten(-1, (rows, columns))


def mask_overlap(masks: Tensor, region: Tensor) -> Tensor:
    """Return the intersection over union (...) of masks (..., rows, columns) with a region (rows, columns)."""
    both, either = masks.bool() & region.bool(), masks.bool() | region.bool()
    return both.sum(dim=(-2, -1)) / either.sum(dim=(-2, -1))


__all__ = [
    "Offsets",
    "aligned_attention",
    "attended_region",
    "attention_distance",
    "attention_offsets",
    "attention_on_tokens",
    "attention_to_token",
    "between_patches",
    "centre_token",
    "deviation_over_classes",
    "deviation_over_heads",
    "deviation_over_queries",
    "foreground_mask",
    "grid_of",
    "mask_overlap",
    "offset_heads",
    "patch_distances",
    "region_overlap",
    "rollout",
    "saliency_masks",
]
