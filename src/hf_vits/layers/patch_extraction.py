"""Extraction of patches of an image at the cells of a grid, by weights over all cells or by indices.

google-research/google-research, ptopk_patch_selection/lib/layers/sample_patches.py (extract_patches_from_indicators,
extract_patches_from_indices).
"""

import torch
from torch import nn

# Cells over which a patch is summed at the same time: many partial sums have smaller rounding errors.
CELLS_AT_ONCE = 256


def cells_of(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) in pixels of a cell of `grid` on an image of `size`; remaining pixels are in none."""
    return size[0] // grid[0], size[1] // grid[1]


def centred(patch_size: tuple[int, int], cell: tuple[int, int]) -> tuple[int, int]:
    """Return by how many pixels (above, left) patches begin before their cells, so that these are at their centre."""
    return (patch_size[0] - cell[0]) // 2, (patch_size[1] - cell[1]) // 2


def soft_patches(
    images: torch.Tensor,
    weights: torch.Tensor,
    patch_size: tuple[int, int],
    cell: tuple[int, int],
    before: tuple[int, int],
) -> torch.Tensor:
    """Return sums of patches, weighted by their cells; pixels outside of the image are 0.

    Patches overlap where they are larger than cells. They are not cut out: the image is divided into cells, and the
    part of a patch that is a number of cells away from its first is one matrix product of shifted weights and cells.

    Args:
        images: (batch, channels, height, width).
        weights: (batch, k, rows, columns).
        patch_size, cell: (height, width) in pixels.
        before: pixels (above, left) by which a patch begins before its cell.

    Returns:
        (batch, k, channels, *patch_size).
    """
    (rows, columns), (height, width) = weights.shape[-2:], images.shape[-2:]
    down, right = -(-patch_size[0] // cell[0]), -(-patch_size[1] // cell[1])  # cells per patch
    high, wide = rows + down - 1, columns + right - 1
    below, after = high * cell[0] - before[0] - height, wide * cell[1] - before[1] - width
    # What lies outside is padded before anything is cut away: a small image may end before the first cell's patch.
    padded = nn.functional.pad(images, [max(0, pixels) for pixels in (before[1], after, before[0], below)])
    padded = padded[..., max(0, -before[0]) :, max(0, -before[1]) :][..., : high * cell[0], : wide * cell[1]]
    cells = padded.unflatten(3, (wide, cell[1])).unflatten(2, (high, cell[0])).permute(0, 2, 4, 1, 3, 5)
    parts = cells.flatten(3).flatten(1, 2)
    shifted = nn.functional.pad(weights, (right - 1, right - 1, down - 1, down - 1))
    shifted = shifted.unfold(2, high, 1).unfold(3, wide, 1).flip(2, 3)
    shifted = shifted.flatten(4).flatten(1, 3)
    blocks = zip(shifted.split(CELLS_AT_ONCE, dim=2), parts.split(CELLS_AT_ONCE, dim=1), strict=True)
    patches = sum(some @ cells for some, cells in blocks)
    patches = patches.unflatten(2, (images.shape[1], *cell)).unflatten(1, (weights.shape[1], down, right))  # pyright: ignore[reportAttributeAccessIssue]
    patches = patches.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4)
    return patches[..., : patch_size[0], : patch_size[1]]


def hard_patches(
    images: torch.Tensor, indices: torch.Tensor, patch_size: tuple[int, int], grid: tuple[int, int]
) -> torch.Tensor:
    """Return the patches around cells; pixels outside of the image are 0.

    A patch that would begin too far below or to the right is moved back until it ends with the padded image.

    Args:
        images: (batch, channels, height, width).
        indices: (batch, k), of cells in row-major order.
        patch_size: (height, width) in pixels.
        grid: (rows, columns) of the cells.

    Returns:
        (batch, k, channels, *patch_size).
    """
    size = images.shape[-2:]
    cell = cells_of((size[0], size[1]), grid)
    before = centred(patch_size, cell)
    after = [max(pad, patch - pad - side) for pad, patch, side in zip(before, patch_size, size, strict=True)]
    padded = nn.functional.pad(images, (before[1], after[1], before[0], after[0]))
    top = (indices // grid[1] * cell[0]).clamp(max=padded.shape[2] - patch_size[0])
    left = (indices % grid[1] * cell[1]).clamp(max=padded.shape[3] - patch_size[1])
    rows = top[..., None] + torch.arange(patch_size[0], device=images.device)
    columns = left[..., None] + torch.arange(patch_size[1], device=images.device)
    batch = torch.arange(images.shape[0], device=images.device)[:, None, None, None]
    patches = padded.movedim(1, -1)[batch, rows[..., :, None], columns[..., None, :]]
    return patches.movedim(-1, 2)


def append_positions(images: torch.Tensor) -> torch.Tensor:
    """Append two channels to images (batch, channels, height, width): each pixel's row and column, from 0 to 1."""
    height, width = images.shape[-2:]
    rows, columns = (torch.linspace(0, 1, size, dtype=images.dtype, device=images.device) for size in (height, width))
    positions = torch.stack([rows[:, None].expand(-1, width), columns.expand(height, -1)])
    return torch.cat([images, positions.expand(images.shape[0], -1, -1, -1)], dim=1)
