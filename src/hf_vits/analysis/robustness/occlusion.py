"""Occluded and shuffled images: what a classifier still knows of an image that lost or mixed up its parts.

Naseer et al., "Intriguing Properties of Vision Transformers", arXiv 2105.10497, sections 3.1 and 3.3;
Muzammal-Naseer/Intriguing-Properties-of-Vision-Transformers (evaluate.py). Images are in [0, 1] before normalisation,
so that removed pixels are black.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from hf_vits.layers.foreground import attended_region

GRIDS = ((2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (14, 14), (16, 16))


def check_grid(images: Tensor, grid: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) of pixels in a cell; ValueError unless the cells of a grid fill the images."""
    height, width = images.shape[-2:]
    rows, columns = grid
    if images.ndim != 4 or rows < 1 or columns < 1 or height % rows or width % columns:
        raise ValueError(
            f"a grid of {rows} x {columns} cells must fill images (batch, channels, height, width) whose sides it "
            f"divides, got shape {tuple(images.shape)}"
        )
    return height // rows, width // columns


def draw_cells(grid: tuple[int, int], count: int, generator: Generator | None = None) -> Tensor:
    """Draw `count` different cells of a grid; with all of them, a permutation.

    The original draws once for a whole batch. With fraction d / 10, it removes d * cells // 10.
    """
    cells = grid[0] * grid[1]
    if not 0 <= count <= cells:
        raise ValueError(f"count must be from 0 to the {cells} cells of the grid {grid}, got {count}")
    return torch.randperm(cells, generator=generator, device="cpu" if generator is None else generator.device)[:count]


def mask_of_cells(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return booleans (rows, columns) that are False in the named cells, numbered row by row."""
    mask = torch.ones(grid[0] * grid[1], dtype=torch.bool, device=cells.device)
    mask[cells] = False
    return mask.view(grid)


def enlarge(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge masks (..., rows, columns) of cells to (..., height, width) pixels by repetition."""
    rows, columns = mask.shape[-2:]
    return mask.repeat_interleave(size[0] // rows, dim=-2).repeat_interleave(size[1] // columns, dim=-1)


def pixel_mask(images: Tensor, mask: Tensor, offset: int = 0) -> Tensor:
    """Return a mask of cells as booleans (..., height, width).

    Args:
        images: (batch, channels, height, width).
        mask: booleans (rows, columns) or (batch, rows, columns), True where pixels remain.
        offset: pixels by which the mask is moved down and right; the first `offset` rows and columns then remain.
    """
    check_grid(images, (mask.shape[-2], mask.shape[-1]))
    kept = enlarge(mask, (images.shape[-2], images.shape[-1]))
    if not offset:
        return kept
    moved = torch.ones_like(kept)
    moved[..., offset:, offset:] = kept[..., :-offset, :-offset]
    return moved


def occlude(images: Tensor, mask: Tensor, offset: int = 0) -> Tensor:
    """Set pixels to black where a mask of cells is False, see `pixel_mask`.

    Example: `occlude(images, mask_of_cells(draw_cells((14, 14), 98), (14, 14)))` removes half of all patches.
    """
    kept = pixel_mask(images, mask, offset)
    return images * (kept[:, None] if kept.ndim == 3 else kept).to(images.device, images.dtype)


def shuffle(images: Tensor, cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return images whose cell i is cell `cells[i]` of the input, the same for the whole batch.

    Args:
        cells: a permutation of the grid's cells, from `draw_cells`.
    """
    rows, columns = check_grid(images, grid)
    if sorted(cells.tolist()) != list(range(grid[0] * grid[1])):
        raise ValueError(f"cells must be a permutation of the {grid[0] * grid[1]} cells of the grid {grid}")
    pieces = images.unflatten(3, (grid[1], columns)).unflatten(2, (grid[0], rows)).transpose(3, 4).flatten(2, 3)
    pieces = pieces[:, :, cells.to(images.device)]
    return pieces.unflatten(2, grid).transpose(3, 4).flatten(4, 5).flatten(2, 3)


def salient_mask(attention: Tensor, grid: tuple[int, int], fraction: float, keep_salient: bool = False) -> Tensor:
    """Return the mask that removes what a token attends to, or everything else.

    The original takes head 1 of DINO's ViT-S/16 and its class token.

    Args:
        attention: (batch, patches), such as one head's attention of the class token.
        fraction: the salient region is the smallest with this fraction of the attention, see `attended_region`.
        keep_salient: whether the salient region remains and the rest is removed.

    Returns:
        Booleans (batch, rows, columns) for `occlude`, True where pixels remain.
    """
    salient = attended_region(attention, fraction).unflatten(1, grid)
    return salient if keep_salient else ~salient


def foreground_mask_of(segmentation: Tensor, grid: tuple[int, int], keep_foreground: bool = False) -> Tensor:
    """Return the mask that removes the cells whose pixels are mostly foreground, or all other cells.

    Args:
        segmentation: booleans (batch, height, width), True in the foreground.
    """
    fraction = F.adaptive_avg_pool2d(segmentation[:, None].float(), grid)[:, 0]
    return (fraction > 0.5) == keep_foreground


def head_masks(attention: Tensor, grid: tuple[int, int], fraction: float = 0.9) -> Tensor:
    """Return what each head attends to, as a segmentation of the image (section 4.2).

    Args:
        attention: (batch, heads, patches) of the class or the shape token, prefix tokens left out.
        fraction: of the attention that lies inside.

    Returns:
        Booleans (batch, heads, rows, columns).
    """
    return attended_region(attention, fraction).unflatten(2, grid)


def jaccard(masks: Tensor, target: Tensor, ignore: tuple[int, ...] = (0, 255), void: int | None = None) -> float:
    """Return the Jaccard index of an image: for each class the best head's, averaged over classes.

    evaluate_segmentation.py, `get_per_sample_jaccard`. It means to leave void pixels out but compares the wrong tensor
    with 255, so that they count as background; `void=255` leaves them out.

    Args:
        masks: (heads, height, width), true inside.
        target: class map (height, width) or (1, height, width).
        ignore: classes that are not scored: background and void.
        void: class whose pixels are not counted at all; None counts every pixel, as the original does.

    Raises:
        ValueError: the image has no class to score.
    """
    masks, target = masks.bool(), target.squeeze(0) if target.ndim == 3 else target
    counted = torch.ones_like(target, dtype=torch.bool) if void is None else target != void
    scores = []
    for label in target.unique().tolist():
        if label in ignore:
            continue
        region = target == label
        intersection = (masks & region & counted).sum((1, 2))
        union = ((masks | region) & counted).sum((1, 2))
        scores.append((intersection.float() / union).max().item())
    if not scores:
        raise ValueError(f"the image has no class beyond the ignored ones {ignore}, so there is no Jaccard index")
    return sum(scores) / len(scores)
