"""Pictures of what a model learns without labels, an image a row.

Every function takes a model that pretrains or, where no more than that is needed, a plain encoder; images (images,
channels, height, width) as the image processor made them; that processor; and the path of the PNG. What is drawn at
random is the same each time, so that the pictures of a run can be compared.
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from torch import Tensor
from transformers import PreTrainedModel

from hf_vits.evaluation.features import evaluating, plain_encoder
from hf_vits.figures.runs import save_figure
from hf_vits.layers.patch import cut_patches, join_patches, pair, square_grid
from hf_vits.objectives.masks import block_mask
from hf_vits.pretraining.ibot.modeling_ibot import LastAttention
from hf_vits.pretraining.mae.modeling_mae import MAEForPreTraining
from hf_vits.pretraining.sit.batches_sit import SiTBatches, generators_of
from hf_vits.pretraining.sit.modeling_sit import SiTForPreTraining

SIDE = 1.6  # of a drawn image, in inches
GREY = 0.5  # stands where a patch is hidden
SEED = 0


class Column(NamedTuple):
    """What stands below one another in a picture.

    Attributes:
        images: (images, height, width[, 3]) from 0 to 1, or of maps, which are coarser than the images, any numbers.
    """

    title: str
    images: np.ndarray
    is_map: bool = False


@torch.no_grad()
def draw_reconstructions(model: PreTrainedModel, pixel_values: Tensor, processor, path: Path) -> None:
    """Each image, what a masked autoencoder or SiT sees of it, and what it paints."""
    columns = sit_columns if isinstance(model, SiTForPreTraining) else mae_columns
    with evaluating(model):
        painted = columns(model, pixel_values.to(model.device, model.dtype), processor)
    draw_columns([Column("image", as_shown(pixel_values, processor)), *painted], path)


def mae_columns(model: MAEForPreTraining, pixel_values: Tensor, processor) -> list[Column]:
    """What is seen and painted; visible patches are drawn as they are.

    Where the model paints patches of mean 0 and variance 1, they get the image's own back.
    """
    grid = model.model.embeddings.grid(*pixel_values.shape[-2:])
    noise = torch.rand(len(pixel_values), math.prod(grid), generator=torch.Generator().manual_seed(SEED))
    outputs = model(pixel_values, noise=noise.to(model.device))
    patch_size = pair(model.config.patch_size)
    patches, painted = cut_patches(pixel_values, patch_size), outputs.logits
    if model.config.normalize_targets:
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        painted = painted * variance.sqrt() + mean
    painted = join_patches(painted.where(outputs.mask[..., None], patches), grid, patch_size)
    seen = hide(as_shown(pixel_values, processor), outputs.mask.unflatten(1, grid))
    return [Column(f"{1 - model.config.mask_ratio:.0%} seen", seen), Column("painted", as_shown(painted, processor))]


def sit_columns(model: SiTForPreTraining, pixel_values: Tensor, processor) -> list[Column]:
    """The corrupted images, and what is painted of them."""
    generators = generators_of(range(SEED, SEED + len(pixel_values)), view=0)
    corrupted = SiTBatches(model.config).corrupt(pixel_values.cpu(), *generators)
    seen = corrupted["corrupted_pixel_values"].to(model.device)
    painted = model.reconstruct(seen)
    return [Column("corrupted", as_shown(seen, processor)), Column("painted", as_shown(painted, processor))]


@torch.no_grad()
def draw_attention(model: PreTrainedModel, pixel_values: Tensor, processor, path: Path) -> None:
    """What the class token looks at in the last layer, head by head (facebookresearch/dino, visualize_attention.py).

    Raises:
        ValueError: an encoder without a class token.
    """
    heads = class_attention(plain_encoder(model), pixel_values).unbind(dim=1)
    columns = [Column(f"head {number}", head.numpy(), is_map=True) for number, head in enumerate(heads, start=1)]
    draw_columns([Column("image", as_shown(pixel_values, processor)), *columns], path)


@torch.no_grad()
def draw_masks(model: Any, pixel_values: Tensor, processor, path: Path, masks: Tensor | None = None) -> None:
    """What iBOT hides from its student; with AttMask also the teacher's attention, by which it does.

    Args:
        masks: (images, patches), True where a patch is hidden. None: with AttMask, those of the model's strategy and
            mean ratio, for every image; otherwise blocks of that ratio.
    """
    encoder, images = plain_encoder(model), as_shown(pixel_values, processor)
    columns = [Column("image", images)]
    if model.masking is not None:
        attention = class_attention(encoder, pixel_values).mean(dim=1)
        columns.append(Column("attention", attention.numpy(), is_map=True))
    if masks is not None:
        masks = masks.unflatten(1, square_grid(masks.shape[1], pixel_values.shape[-2:])).cpu()
    elif model.masking is not None:
        masks = model.masking.by_attention(attention.flatten(1), model.config.mask_ratio).view_as(attention)
    else:
        grid = patch_tokens(encoder, pixel_values[:1])[1]
        generator = random.Random(SEED)
        masks = torch.stack([torch.from_numpy(block_mask(grid, model.config.mask_ratio, generator)) for _ in images])
    draw_columns([*columns, Column(f"{masks.float().mean():.0%} hidden", hide(images, masks))], path)


@torch.no_grad()
def draw_patch_components(model: PreTrainedModel, pixel_values: Tensor, processor, path: Path) -> None:
    """The first three principal components of the features of all patches, as red, green and blue."""
    tokens, grid = patch_tokens(plain_encoder(model), pixel_values)
    components = PCA(3, random_state=SEED).fit_transform(tokens.flatten(0, 1).numpy())
    low, high = np.percentile(components, (1, 99), axis=0)
    colours = ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    maps = colours.reshape(len(pixel_values), *grid, 3)
    images = Column("image", as_shown(pixel_values, processor))
    draw_columns([images, Column("components", maps, is_map=True)], path)


def class_attention(encoder: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """(images, heads, rows, columns) of the class token in the last layer, on the CPU."""
    with evaluating(encoder), LastAttention(encoder) as last:
        encoder(pixel_values.to(encoder.device, encoder.dtype))
    attention = last.of_each_head().cpu()
    return attention.unflatten(2, square_grid(attention.shape[2], pixel_values.shape[-2:]))


def patch_tokens(encoder: PreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Last features of the patches (images, patches, channels), in float32 on the CPU, and their grid."""
    with evaluating(encoder):
        tokens = encoder(pixel_values.to(encoder.device, encoder.dtype)).last_hidden_state
    tokens = tokens[:, encoder.config.num_prefix_tokens :].float().cpu()
    return tokens, square_grid(tokens.shape[1], pixel_values.shape[-2:])


def as_shown(pixel_values: Tensor, processor) -> np.ndarray:
    """Images (images, height, width[, 3]) from 0 to 1 of what `processor` made."""
    images = pixel_values.float().cpu()
    if processor.do_normalize:
        mean, std = (torch.as_tensor(value).view(-1, 1, 1) for value in (processor.image_mean, processor.image_std))
        images = images * std + mean
    images = images.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return images[..., 0] if images.shape[-1] == 1 else images


def hide(images: np.ndarray, masks: Tensor) -> np.ndarray:
    """Images with grey in place of the patches where `masks` (images, rows, columns) is True."""
    height, width = images.shape[1:3]
    pixels = torch.nn.functional.interpolate(masks[:, None].float().cpu(), size=(height, width))[:, 0].numpy() > 0
    return np.where(pixels.reshape(*pixels.shape, *[1] * (images.ndim - 3)), GREY, images)


def draw_columns(columns: Sequence[Column], path: Path) -> None:
    """Write a picture; its first column are images, onto whose size maps are stretched."""
    rows, height, width = columns[0].images.shape[:3]
    figure = Figure(figsize=(SIDE * len(columns), SIDE * rows * height / width + 0.4), layout="constrained")
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for axes_of_column, column in zip(grid.T, columns, strict=True):
        axes_of_column[0].set_title(column.title, fontsize=9)
        for axes, image in zip(axes_of_column, column.images, strict=True):
            axes.axis("off")
            if column.is_map:
                axes.imshow(image, interpolation="nearest", extent=(0, width, height, 0))
            else:
                axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)
