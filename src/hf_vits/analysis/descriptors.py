"""Dense descriptors from the blocks of a ViT: keys, queries, values, tokens, log bins, saliency, correspondences, PCA.

Amir et al., "Deep ViT Features as Dense Visual Descriptors", arXiv 2112.05814 (ShirAmir/dino-vit-features). The paper
uses DINO ViT-S/8; any ViT of hf_vits, transformers or timm works.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor, nn

from hf_vits.configuration import pair
from hf_vits.layers.position import PositionEmbedding, interpolate_positions
from hf_vits.processing.opening import to_mode

from .taps import count_prefix_tokens, record, vision_encoder

FACETS = {"key": "keys", "query": "queries", "value": "values", "token": "blocks", "attention": "attentions"}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DINO_VITS8_HEADS = (0, 2, 4, 5)  # whose attention the paper calls salient
_SIMILARITIES = 2**26  # computed at a time: a quarter of a GiB


class Descriptors(NamedTuple):
    """Descriptors of the patches of images.

    Attributes:
        values: (batch, patches, channels); with a class token (batch, 1 + patches, channels).
        grid: (rows, columns) of the patches.
    """

    values: Tensor
    grid: tuple[int, int]


class Correspondences(NamedTuple):
    """Pairs of corresponding points.

    Attributes:
        first, second: (pairs, 2), y and x in pixels of the resized images.
        images: both resized images.
    """

    first: np.ndarray
    second: np.ndarray
    images: tuple[Image.Image, Image.Image]


def prepare(
    image: Image.Image,
    size: int | tuple[int, int] | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> tuple[Tensor, Image.Image]:
    """Return pixel values (1, 3, height, width) of an image and the resized image, nothing cropped.

    Args:
        size: of the short side, or (height, width), in pixels; None does not resize.
        mean, std: of the model's image processor.
    """
    image = to_mode(image, "RGB")
    if isinstance(size, int):
        width, height = image.size
        short = min(width, height)
        size = (int(size * height / short), int(size * width / short))
    if size is not None and (size[1], size[0]) != image.size:
        image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    mean_, std_ = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return ((pixels - mean_) / std_)[None], image


def find_patch_projection(model: nn.Module) -> nn.Conv2d:
    """Return the convolution that makes patch tokens; ValueError where a model has none."""
    for module in vision_encoder(model).modules():
        if isinstance(module, nn.Conv2d):
            if min(pair(module.kernel_size)) > 1 and module.padding in (0, (0, 0)):
                return module
            break
    raise ValueError(f"{type(model).__name__} does not cut images into patches by a convolution without padding")


def resize_positions(model: nn.Module, table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize a model's table of positions (1, prefix + side**2, channels) as DINO does, its prefix rows unchanged."""
    rows = table.shape[1]
    prefix = next((n for n in (count_prefix_tokens(model), 1, 0) if math.isqrt(rows - n) ** 2 == rows - n), None)
    if prefix is None:
        raise ValueError(f"{rows} positions of {type(model).__name__} are no square grid with prefix tokens")
    side = math.isqrt(rows - prefix)
    return interpolate_positions(table, (side, side), grid, "bicubic_offset")


@contextmanager
def strided(
    model: nn.Module, size: tuple[int, int], stride: int | tuple[int, int] | None
) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """Change the stride of a model's patches, and resize its positions to fit, inside the context.

    Yields the (rows, columns) of the patches, and further arguments that the model's `forward` needs.

    Args:
        size: (height, width) of the images in pixels.
        stride: divides the patch size; None keeps the patches side by side.

    Raises:
        ValueError: the stride does not divide the patch size, or the model's positions cannot follow.
    """
    encoder = vision_encoder(model)
    projection = find_patch_projection(model)
    patch, step = pair(projection.kernel_size), pair(stride or projection.stride)
    if any(p % s for p, s in zip(patch, step, strict=True)):
        raise ValueError(f"the stride must divide the patch size {patch}, got {step}")
    rows, columns = (1 + (side - p) // s for side, p, s in zip(size, patch, step, strict=True))
    grid, forward = (rows, columns), {}
    with ExitStack() as stack:

        def change(owner: Any, name: str, value: Any) -> None:
            if name in vars(owner) or not isinstance(getattr(type(owner), name, None), type(change)):
                stack.callback(setattr, owner, name, getattr(owner, name))
            else:
                stack.callback(delattr, owner, name)  # a method of the class
            setattr(owner, name, value)

        change(projection, "stride", step)
        for module in model.modules():
            if isinstance(module, PositionEmbedding):
                change(module, "interpolation", "bicubic_offset")
            if callable(getattr(module, "grid", None)):
                change(module, "grid", lambda height, width: grid)
            table: Any = getattr(module, "position_embeddings", getattr(module, "position_embedding", None))
            if hasattr(module, "interpolate_pos_encoding") and table is not None:
                table = table.weight[None] if isinstance(table, nn.Embedding) else table
                resized = resize_positions(model, table, grid)
                change(module, "interpolate_pos_encoding", lambda *_, resized=resized: resized)
            if hasattr(module, "pos_embed") and hasattr(module, "dynamic_img_size"):  # timm
                patches: Any = module.patch_embed
                resized = nn.Parameter(resize_positions(model, module.pos_embed, grid).detach(), requires_grad=False)
                for owner, name, value in (
                    (module, "pos_embed", resized),
                    (module, "dynamic_img_size", False),
                    (patches, "img_size", None),
                    (patches, "flatten", True),
                ):
                    change(owner, name, value)
            elif grid != tuple(s // p for s, p in zip(size, patch, strict=True)) and any(
                name in type(module).__name__
                for name in ("RelativePosition", "RotaryEmb", "RopePosition", "RotaryPos")
            ):
                raise ValueError(f"the positions of {type(model).__name__} are relative: its stride cannot change")
        if "interpolate_pos_encoding" in inspect.signature(encoder.forward).parameters:
            forward["interpolate_pos_encoding"] = True
        yield grid, forward


def extract_facet(
    model: nn.Module,
    pixel_values: Tensor,
    layer: int = -1,
    facet: str = "key",
    stride: int | tuple[int, int] | None = None,
) -> tuple[Tensor, tuple[int, int], int]:
    """Return a facet of one block with all tokens, the grid of the patches and the number of prefix tokens.

    Args:
        pixel_values: (batch, channels, height, width).
        layer: index of the block, from 0; negative from the end.
        facet: "key", "query", "value": (batch, heads, tokens, head_dim), before scaling; "token": block output without
            the final norm, (batch, 1, tokens, channels); "attention": after softmax, (batch, heads, tokens, tokens).
        stride: of the patches in pixels, divides the patch size; None for the model's own.

    Raises:
        ValueError: an unknown facet, layer or stride; a model without such a facet.
    """
    if facet not in FACETS:
        raise ValueError(f"facet must be one of {', '.join(FACETS)}, got {facet!r}")
    size = (pixel_values.shape[-2], pixel_values.shape[-1])
    with strided(model, size, stride) as (grid, forward):
        inputs = {"pixel_values": pixel_values, **forward} if forward else pixel_values
        recording = record(model, inputs, FACETS[facet], [layer])
    value = getattr(recording, FACETS[facet])[0]
    prefix = recording.num_prefix_tokens
    if value.shape[-2] != prefix + math.prod(grid):
        raise ValueError(
            f"block {layer} of {type(model).__name__} has {value.shape[-2]} tokens, expected {prefix} + {grid[0]} * "
            f"{grid[1]}: blocks on all patches and prefix tokens are needed"
        )
    return value[:, None] if value.ndim == 3 else value, grid, prefix


def descriptors(
    model: nn.Module,
    pixel_values: Tensor,
    layer: int = -1,
    facet: str = "key",
    stride: int | tuple[int, int] | None = None,
    bins: bool = False,
    class_token: bool = False,
) -> Descriptors:
    """Return a descriptor per patch, or per bin of patches.

    Example: `descriptors(model, pixel_values, layer=9, stride=4, bins=True).values`.

    Args:
        layer, facet, stride: as in `extract_facet`; not the facet "attention".
        bins: whether to return log-binned descriptors of 17 times as many channels.
        class_token: whether the prefix tokens' descriptors come first, one per prefix token.

    Returns:
        Channels are interleaved: index = channel within the head * heads + head.

    Raises:
        ValueError: as in `extract_facet`; bins together with the class token.
    """
    if facet == "attention":
        raise ValueError("attention is not a descriptor: choose key, query, value or token")
    if bins and class_token:
        raise ValueError("a class token has no place in log bins: choose bins or class_token")
    values, grid, prefix = extract_facet(model, pixel_values, layer, facet, stride)
    if not class_token:
        values = values[:, :, prefix:]
    values = interleave(values)
    return Descriptors(log_bins(values, grid) if bins else values, grid)


def interleave(values: Tensor) -> Tensor:
    """Map (batch, heads, tokens, head_dim) to (batch, tokens, head_dim * heads), heads innermost."""
    return values.permute(0, 2, 3, 1).flatten(2)


@torch.no_grad()
def log_bins(values: Tensor, grid: tuple[int, int], levels: int = 2) -> Tensor:
    """Concatenate each descriptor with its surroundings, which are coarser the farther away they are (section 3.2).

    Level k has the mean over squares of 3**k patches at the 8 positions 3**k patches away; the centre is part of
    level 0 only. Positions outside are those at the border; means leave out what is outside.

    Args:
        values: (batch, rows * columns, channels).

    Returns:
        (batch, rows * columns, (1 + 8 * levels) * channels): parts by level, then row, then column.
    """
    batch, tokens, channels = values.shape
    rows, columns = grid
    if tokens != rows * columns:
        raise ValueError(f"{tokens} descriptors are no grid of {rows} x {columns}")
    maps = values.mT.unflatten(2, grid)
    binned = values.new_empty(batch, rows, columns, 1 + 8 * levels, channels)
    part = 0
    for level in range(levels):
        step = 3**level
        pooled = maps  # level 0 is the descriptors themselves
        if level:
            pooled = nn.functional.avg_pool2d(maps, step, stride=1, padding=step // 2, count_include_pad=False)
        padded = nn.functional.pad(pooled, [step] * 4, mode="replicate").permute(0, 2, 3, 1).contiguous()
        for y in (0, step, 2 * step):
            for x in (0, step, 2 * step):
                if level and y == x == step:
                    continue
                binned[:, :, :, part] = padded[:, y : y + rows, x : x + columns]
                part += 1
    return binned.flatten(3).flatten(1, 2)


def saliency(
    model: nn.Module,
    pixel_values: Tensor,
    layer: int = -1,
    heads: Sequence[int] | None = None,
    stride: int | tuple[int, int] | None = None,
) -> tuple[Tensor, tuple[int, int]]:
    """Return how much the class token attends to each patch, from 0 to 1 in each image, and the grid of the patches.

    Args:
        heads: indices of the heads whose mean is taken; None for all. The paper takes `DINO_VITS8_HEADS`.

    Returns:
        (batch, rows * columns), and (rows, columns).

    Raises:
        ValueError: a model without class token; a head that does not exist.
    """
    attention, grid, prefix = extract_facet(model, pixel_values, layer, "attention", stride)
    if not prefix:
        raise ValueError(f"{type(model).__name__} has no class token, whose attention is the saliency")
    chosen = list(range(attention.shape[1]) if heads is None else heads)
    if out := [head for head in chosen if not 0 <= head < attention.shape[1]]:
        raise ValueError(f"block {layer} has heads 0 to {attention.shape[1] - 1}, got {out}")
    mean = attention[:, chosen, 0, prefix:].mean(dim=1)
    low, high = mean.amin(dim=1, keepdim=True), mean.amax(dim=1, keepdim=True)
    return (mean - low) / (high - low), grid


@torch.no_grad()
def cosine_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine of all pairs of descriptors, computed in parts.

    Args:
        first, second: (batch, tokens, channels).

    Returns:
        (batch, tokens of first, tokens of second).
    """
    first, second = (nn.functional.normalize(values, dim=-1, eps=1e-8) for values in (first, second))
    rows = max(_SIMILARITIES // (second.shape[0] * second.shape[1]), 1)
    return torch.cat([part @ second.mT for part in first.split(rows, dim=1)], dim=1)


class BestBuddies(NamedTuple):
    """Nearest neighbours of two images' descriptors.

    Attributes:
        forward, backward: for each descriptor of the first image its nearest of the second, and the reverse.
        forward_similarity, backward_similarity: their cosines.
        mutual: booleans, True where a descriptor of the first image is the nearest of its nearest.
    """

    forward: Tensor
    backward: Tensor
    forward_similarity: Tensor
    backward_similarity: Tensor
    mutual: Tensor


def best_buddies(first: Tensor, second: Tensor) -> BestBuddies:
    """Find the descriptors of two images that are each other's nearest, by cosine.

    Args:
        first, second: (tokens, channels).
    """
    similarity = cosine_similarity(first[None], second[None])[0]
    (ahead, forward), (back, backward) = similarity.max(dim=1), similarity.max(dim=0)
    mutual = backward[forward] == torch.arange(len(first), device=first.device)
    return BestBuddies(forward, backward, ahead, back, mutual)


def salient_buddies(buddies: BestBuddies, first: Tensor, second: Tensor, threshold: float) -> Tensor:
    """Return which mutual neighbours lie on salient patches of both images, booleans (tokens of the first,).

    As published, the second image counts through its salient patches' neighbours in the first.

    Args:
        first, second: saliency of each patch, (tokens,).
    """
    reached = torch.zeros_like(buddies.mutual)
    reached[buddies.backward[second > threshold]] = True
    return buddies.mutual & (first > threshold) & reached


def well_spread(pairs: np.ndarray, ranks: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Choose pairs that differ: the best of each cluster.

    Args:
        pairs: both descriptors of each pair, (pairs, channels).
        ranks: (pairs,), larger is better.
        count: number of pairs; all where there are fewer.

    Returns:
        Indices of the chosen pairs, and the clusters of all pairs.
    """
    normalised = pairs / np.linalg.norm(pairs, axis=1, keepdims=True)
    clusters = KMeans(min(count, len(pairs)), random_state=seed).fit_predict(normalised)
    best = [int(np.argmax(np.where(clusters == cluster, ranks, -np.inf))) for cluster in np.unique(clusters)]
    return np.array(best), clusters


def centres(tokens: Tensor, columns: int, patch: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """Return y and x of tokens in pixels: (tokens, 2)."""
    y, x = tokens // columns * stride[0] + patch[0] // 2, tokens % columns * stride[1] + patch[1] // 2
    return torch.stack([y, x], dim=1).cpu().numpy()


def geometry(model: nn.Module, stride: int | tuple[int, int] | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return patch size and stride, both (height, width) in pixels."""
    projection = find_patch_projection(model)
    return pair(projection.kernel_size), pair(stride or projection.stride)


def find_correspondences(
    model: nn.Module,
    images: tuple[Image.Image, Image.Image],
    count: int = 10,
    size: int | tuple[int, int] | None = 224,
    layer: int = 9,
    facet: str = "key",
    bins: bool = True,
    threshold: float = 0.05,
    stride: int | tuple[int, int] | None = 4,
    heads: Sequence[int] | None = None,
    saliency_layer: int = -1,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    seed: int = 0,
) -> Correspondences:
    """Find corresponding points of two images: best buddies on salient patches, spread by k-means (section 4.3).

    Args:
        count: number of pairs; fewer where fewer are found.
        size, mean, std: see `prepare`.
        layer, facet, bins, stride: see `descriptors`.
        threshold: smallest saliency.
        heads, saliency_layer: see `saliency`.
        seed: of k-means.

    Raises:
        ValueError: no pair is left; see also `descriptors` and `saliency`.
    """
    device = next(model.parameters()).device
    prepared = [prepare(image, size, mean, std) for image in images]
    pixels = [pixel_values.to(device) for pixel_values, _ in prepared]
    (first, grid1), (second, grid2) = (descriptors(model, p, layer, facet, stride, bins) for p in pixels)
    salient = [saliency(model, p, saliency_layer, heads, stride)[0][0] for p in pixels]
    buddies = best_buddies(first[0], second[0])
    mine = salient_buddies(buddies, salient[0], salient[1], threshold).nonzero().flatten()
    if not len(mine):
        raise ValueError(f"no mutual neighbours are more salient than {threshold}: choose a lower threshold")
    theirs = buddies.forward[mine]
    ranks = (salient[0][mine] + salient[1][theirs]) / 2
    both = torch.cat([first[0][mine], second[0][theirs]], dim=1).cpu().numpy()
    chosen = torch.from_numpy(well_spread(both, ranks.cpu().numpy(), count, seed)[0]).to(device)
    places = geometry(model, stride)
    return Correspondences(
        centres(mine[chosen], grid1[1], *places),
        centres(theirs[chosen], grid2[1], *places),
        (prepared[0][1], prepared[1][1]),
    )


def descriptor_components(
    described: Sequence[Descriptors], count: int = 4, together: bool = True, seed: int = 0
) -> list[np.ndarray]:
    """Return the principal components of descriptors, (rows, columns, count) for each image.

    Args:
        described: of one image each.
        together: whether all images have the same components.
        seed: of the randomised solver, which scikit-learn chooses for many descriptors.
    """
    flat = [each.values.flatten(0, 1).float().cpu().numpy() for each in described]
    if together:
        fitted = PCA(count, random_state=seed).fit(np.concatenate(flat))
        found = [fitted.transform(values) for values in flat]
    else:
        found = [PCA(count, random_state=seed).fit_transform(values) for values in flat]
    return [values.reshape(*each.grid, count) for values, each in zip(found, described, strict=True)]


def components_to_rgb(components: np.ndarray) -> np.ndarray:
    """Map the last three components (rows, columns, count) to colours (rows, columns, 3) from 0 to 255."""
    last = components[..., -3:]
    low, high = last.min(axis=(0, 1)), last.max(axis=(0, 1))
    return ((last - low) / (high - low) * 255).astype(np.uint8)
