"""What attention heads attend to: distances, offsets, maps, rollout, and their overlap with regions.

Sources: Raghu et al., "Do Vision Transformers See Like Convolutional Neural Networks?", arXiv 2108.08810; Walmer et
al., "Teaching Matters", arXiv 2212.03862 (mwalmer-umd/vit_analysis, analysis/attention_metrics.py and
run_seg_analysis.py); Abnar and Zuidema, arXiv 2005.00928, for the rollout.

The functions take attentions (..., queries, keys) after the softmax, prefix tokens first, or a `taps.Recording`,
whose attentions become (batch, layers, heads, tokens, tokens).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor

from hf_vits.layers.foreground import attended_region, foreground_mask
from hf_vits.layers.patch import square_grid

from .taps import Recording

Attentions = Tensor | Recording
Grid = tuple[int, int] | None
Convention = Literal["unit_square", "pixels"]
Queries = Literal["all", "class", "patches", "patches_renormalized"]


@dataclass
class OffsetHead:
    """A head that attends to the neighbour at one fixed offset.

    offset: (rows, columns) from the query to the neighbour, down and right positive.
    mass: fraction of the attention to patches that the neighbour gets, averaged over the queries that have it.
    """

    layer: int
    head: int
    offset: tuple[int, int]
    mass: float


def unpack(attentions: Attentions, grid: Grid, num_prefix_tokens: int) -> tuple[Tensor, tuple[int, int], int]:
    """Return the attentions as a tensor, the grid of patches and the number of prefix tokens.

    Raises:
        ValueError: the tokens do not fit the grid, or without a grid are no square.
    """
    if isinstance(attentions, Recording):
        if not attentions.attentions:
            raise ValueError('the recording has no attentions: record(model, pixel_values, "attentions")')
        grid, num_prefix_tokens = grid or attentions.grid, attentions.num_prefix_tokens
        attentions = torch.stack(attentions.attentions, dim=1)
    patches = attentions.shape[-1] - num_prefix_tokens
    grid = grid or square_grid(patches, (1, 1))
    if grid[0] * grid[1] != patches or attentions.shape[-2] != attentions.shape[-1]:
        raise ValueError(
            f"attentions must be (..., tokens, tokens) with {num_prefix_tokens} prefix tokens and "
            f"{grid[0]} x {grid[1]} patches, got {tuple(attentions.shape)}"
        )
    return attentions, grid, num_prefix_tokens


def between_patches(attention: Tensor, num_prefix_tokens: int, renormalize: bool) -> Tensor:
    """Return attention from patches to patches; rows sum up to one with `renormalize`, empty rows stay zero."""
    attention = attention[..., num_prefix_tokens:, num_prefix_tokens:]
    if not renormalize:
        return attention
    total = attention.sum(dim=-1, keepdim=True)
    return attention / torch.where(total == 0, 1, total)


def token_distances(grid: tuple[int, int], unit: tuple[float, float]) -> Tensor:
    """Return the distances (patches, patches) between patches whose rows and columns are `unit` apart, in float64."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    positions = torch.stack([rows * unit[0], columns * unit[1]], dim=-1).flatten(0, 1).double()
    return (positions[:, None] - positions[None]).square().sum(dim=-1).sqrt()


def attention_distance(
    attentions: Attentions,
    convention: Convention = "unit_square",
    grid: Grid = None,
    num_prefix_tokens: int = 1,
    patch_size: int = 1,
    renormalize: bool | None = None,
) -> Tensor:
    """Return how far a head attends on average, (...) for attentions (..., tokens, tokens).

    Two conventions are in use. "unit_square" (vit_analysis): patches lie on a unit square, from 0 to 1 along each
    side, and rows without the prefix tokens are renormalised; rows without any attention to patches count as
    distance 0. "pixels" (Raghu et al.): patches are `patch_size` pixels apart, and rows are not renormalised, so that
    a head that attends to the class token looks local.

    Args:
        renormalize: whether rows sum up to one over patches; None as the convention has it.

    Raises:
        ValueError: an unknown convention, or tokens that do not fit the grid.
    """
    if convention not in ("unit_square", "pixels"):
        raise ValueError(f'convention must be "unit_square" or "pixels", got {convention!r}')
    attention, grid, prefix = unpack(attentions, grid, num_prefix_tokens)
    if convention == "pixels":
        unit = (float(patch_size), float(patch_size))
    else:
        unit = (1 / max(grid[0] - 1, 1), 1 / max(grid[1] - 1, 1))
    renormalize = convention == "unit_square" if renormalize is None else renormalize
    distances = token_distances(grid, unit).to(attention)
    return (between_patches(attention, prefix, renormalize) * distances).sum(dim=-1).mean(dim=-1)


def sorted_by_layer(distances: Tensor) -> Tensor:
    """Return distances (images, layers, heads) averaged over images, the heads of a layer in rising order."""
    return distances.mean(dim=0).sort(dim=-1).values


def position_deviation(attentions: Attentions, num_prefix_tokens: int = 1) -> Tensor:
    """Return how much a head's attention differs between queries: unbiased deviation, averaged over keys, (...)."""
    attention = tensor_of(attentions)
    return between_patches(attention, prefix_of(attentions, num_prefix_tokens), False).std(dim=-2).mean(dim=-1)


def head_deviation(attentions: Attentions, num_prefix_tokens: int = 1) -> Tensor:
    """Return how much heads differ, (...) for (..., heads, tokens, tokens): unbiased deviation, averaged over maps."""
    attention = tensor_of(attentions)
    prefix = prefix_of(attentions, num_prefix_tokens)
    return between_patches(attention, prefix, False).std(dim=-3).mean(dim=(-2, -1))


def tensor_of(attentions: Attentions) -> Tensor:
    return torch.stack(attentions.attentions, dim=1) if isinstance(attentions, Recording) else attentions


def prefix_of(attentions: Attentions, num_prefix_tokens: int) -> int:
    return attentions.num_prefix_tokens if isinstance(attentions, Recording) else num_prefix_tokens


def attention_to_token(attentions: Attentions, token: int = 0, num_prefix_tokens: int = 1) -> Tensor:
    """Return the mean attention of patches to one token, (...).

    The class token is token 0. vit_analysis means the class token in its `spatial-cls-att` but reads token 1.
    """
    return tensor_of(attentions)[..., prefix_of(attentions, num_prefix_tokens) :, token].mean(dim=-1)


def attention_on_tokens(attentions: Attentions, queries: Queries = "all", num_prefix_tokens: int = 1) -> Tensor:
    """Return the attention that each token receives, averaged over queries, (..., tokens).

    Args:
        queries: "all"; "class" for token 0 alone; "patches"; "patches_renormalized" for patches whose attention to
            prefix tokens is set to zero, the rest summing up to one.

    Raises:
        ValueError: other queries.
    """
    attention, prefix = tensor_of(attentions), prefix_of(attentions, num_prefix_tokens)
    if queries == "all":
        return attention.mean(dim=-2)
    if queries == "class":
        return attention[..., 0, :]
    if queries == "patches":
        return attention[..., prefix:, :].mean(dim=-2)
    if queries == "patches_renormalized":
        pure = between_patches(attention, prefix, True).mean(dim=-2)
        return torch.nn.functional.pad(pure, (prefix, 0))
    raise ValueError(f"queries must be all, class, patches or patches_renormalized, got {queries!r}")


def class_means(on_tokens: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the images of each class, (classes, ...), of values (images, ...); classes in order."""
    return torch.stack([on_tokens[labels == label].mean(dim=0) for label in labels.unique()])


def class_deviation(means: Tensor) -> Tensor:
    """Return how much attention differs between classes, (...) for `class_means` (classes, ..., tokens).

    The deviation over classes is the population's; it is averaged over tokens.
    """
    return means.std(dim=0, correction=0).mean(dim=-1)


def aligned_attention(attentions: Attentions, grid: Grid = None, num_prefix_tokens: int = 1) -> Tensor:
    """Return attention maps around their query, averaged over queries, (..., 2 rows - 1, 2 columns - 1).

    Each patch's map, renormalised over patches, is shifted so that the query lies in the centre of the canvas. What
    lies outside the image counts as zero, so that the border of the canvas is weighted less.
    """
    attention, (rows, columns), prefix = unpack(attentions, grid, num_prefix_tokens)
    attention = between_patches(attention, prefix, True)
    shape = (2 * rows - 1, 2 * columns - 1)
    canvas = attention.new_zeros(*attention.shape[:-2], shape[0] * shape[1])
    places = aligned_places((rows, columns)).to(attention.device).flatten()
    flat = attention.flatten(-2)
    canvas.scatter_add_(-1, places.expand(flat.shape), flat)
    return canvas.unflatten(-1, shape) / (rows * columns)


def aligned_places(grid: tuple[int, int]) -> Tensor:
    """Return the place on the aligned canvas of each pair of query and key, (patches, patches)."""
    rows, columns = grid
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    row, column = row.flatten(), column.flatten()
    down, right = row[None] - row[:, None] + rows - 1, column[None] - column[:, None] + columns - 1
    return down * (2 * columns - 1) + right


def attention_offset(aligned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return length, x and y of the offset from query to centre of mass, each (...), of aligned maps.

    x points right, y down, from -1 to 1 over the canvas. Empty maps have offset 0.
    """
    aligned = aligned.double()
    total = aligned.sum(dim=(-2, -1), keepdim=True)
    aligned = aligned / torch.where(total > 0, total, 1)
    down, right = (torch.linspace(-1, 1, size, dtype=torch.float64).to(aligned.device) for size in aligned.shape[-2:])
    x, y = (aligned.sum(dim=-2) * right).sum(dim=-1), (aligned.sum(dim=-1) * down).sum(dim=-1)
    return torch.hypot(x, y), x, y


def offset_heads(aligned: Tensor, mass: float = 0.3, reach: int = 2) -> list[OffsetHead]:
    """Return the heads that attend to a neighbour at a fixed offset ("offset local attention heads").

    The criterion: the place of the aligned map with most attention per query is not the query itself, lies at most
    `reach` rows and columns away, and gets at least the fraction `mass` of the attention to patches, averaged over
    the queries for which that neighbour lies inside the image. The authors of "Teaching Matters" chose by eye.

    Args:
        aligned: (layers, heads, 2 rows - 1, 2 columns - 1), from `aligned_attention`, averaged over images.
    """
    rows, columns = ((size + 1) // 2 for size in aligned.shape[-2:])
    counts = torch.bincount(aligned_places((rows, columns)).flatten(), minlength=aligned[0, 0].numel())
    per_query = aligned.flatten(-2) * rows * columns / counts.to(aligned)
    down, right = torch.meshgrid(torch.arange(1 - rows, rows), torch.arange(1 - columns, columns), indexing="ij")
    near = ((down.abs() <= reach) & (right.abs() <= reach)).flatten().to(aligned.device)
    best, place = per_query.masked_fill(~near, 0).max(dim=-1)
    found = []
    for layer, head in (best >= mass).nonzero().tolist():
        index = int(place[layer, head])
        offset = (int(down.flatten()[index]), int(right.flatten()[index]))
        if offset != (0, 0):
            found.append(OffsetHead(layer, head, offset, float(best[layer, head])))
    return found


def rollout(attentions: Attentions) -> Tensor:
    """Return the attention rollout, (layers, ..., tokens, tokens): what reaches a token from the input by each layer.

    Heads are averaged, the identity is added for the skip connection, rows are normalised, and layers are multiplied
    from the left.

    Args:
        attentions: (layers, ..., heads, tokens, tokens), or a recording.
    """
    layers = attentions.attentions if isinstance(attentions, Recording) else attentions
    reached, result = None, []
    for attention in layers:
        mixed = attention.mean(dim=-3)
        mixed = mixed + torch.eye(mixed.shape[-1], dtype=mixed.dtype, device=mixed.device)
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        reached = mixed if reached is None else mixed @ reached
        result.append(reached)
    return torch.stack(result)


def centre_token(grid: tuple[int, int], num_prefix_tokens: int = 1) -> int:
    """Return the token in the centre of a grid; of the two or four of an even grid the upper left one."""
    return num_prefix_tokens + (grid[0] - 1) // 2 * grid[1] + (grid[1] - 1) // 2


def saliency(
    attentions: Attentions,
    queries: Literal["class", "patches", "center"] = "class",
    merge_heads: bool = False,
    normalize_heads: bool = False,
    grid: Grid = None,
    num_prefix_tokens: int = 1,
) -> Tensor:
    """Return attention to patches, (..., heads, patches), each map summing up to one.

    `attended_region` and `region_overlap` make masks of it and compare them with regions.

    Args:
        queries: the class token; the sum over all patches; or the patch in the centre.
        merge_heads: whether heads are summed up; there is then one head.
        normalize_heads: whether each head's map sums up to one before heads are merged. In the original's script this
            depends on the order of the modes: the maps of "class" and "center" are normalised there.

    Raises:
        ValueError: other queries.
    """
    attention, grid, prefix = unpack(attentions, grid, num_prefix_tokens)
    to_patches = attention[..., prefix:]
    if queries == "class":
        maps = to_patches[..., 0, :]
    elif queries == "patches":
        maps = to_patches[..., prefix:, :].sum(dim=-2)
    elif queries == "center":
        maps = to_patches[..., centre_token(grid, prefix), :]
    else:
        raise ValueError(f"queries must be class, patches or center, got {queries!r}")
    if merge_heads:
        if normalize_heads:
            maps = maps / maps.sum(dim=-1, keepdim=True)
        maps = maps.sum(dim=-2, keepdim=True)
    return maps / maps.sum(dim=-1, keepdim=True)


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


def plot_attention_distance(distances: Tensor, ylabel: str = "mean attention distance") -> Figure:
    """Plot attention distance by depth, one point per head.

    Args:
        distances: (layers, heads), averaged over images.
    """
    figure = Figure(figsize=(max(5, 0.35 * len(distances) + 2), 3.2), layout="constrained")
    axes = figure.subplots()
    layers = range(1, len(distances) + 1)
    for layer, heads in zip(layers, distances.tolist(), strict=True):
        axes.plot([layer] * len(heads), heads, "o", color="tab:blue", markersize=4, alpha=0.6)
    axes.plot(layers, distances.mean(dim=1).tolist(), color="tab:blue", label="mean over heads")
    axes.set(xlabel="block", ylabel=ylabel, xticks=layers)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def plot_heads(maps: Tensor, marked: list[OffsetHead] | None = None, label: str = "block") -> Figure:
    """Draw a map per head, a row per block; offset heads get a red frame.

    Args:
        maps: (layers, heads, rows, columns), such as `aligned_attention` averaged over images.
    """
    layers, heads = maps.shape[:2]
    figure = Figure(figsize=(1 + heads, 0.3 + layers), layout="constrained")
    frames = {(head.layer, head.head) for head in marked or ()}
    for layer, row in enumerate(figure.subplots(layers, heads, squeeze=False)):
        row[0].set_ylabel(f"{label} {layer + 1}", fontsize=7)
        for head, axes in enumerate(row):
            axes.imshow(maps[layer, head].float().cpu().numpy(), cmap="viridis")
            axes.set(xticks=[], yticks=[])
            if layer == 0:
                axes.set_title(f"head {head + 1}", fontsize=7)
            if (layer, head) in frames:
                for spine in axes.spines.values():
                    spine.set(color="tab:red", linewidth=3)
    return figure


__all__ = [
    "OffsetHead",
    "aligned_attention",
    "attended_region",
    "attention_distance",
    "attention_offset",
    "attention_on_tokens",
    "attention_to_token",
    "class_deviation",
    "class_means",
    "foreground_mask",
    "head_deviation",
    "offset_heads",
    "plot_attention_distance",
    "plot_heads",
    "position_deviation",
    "region_overlap",
    "rollout",
    "saliency",
    "sorted_by_layer",
    "token_distances",
]
