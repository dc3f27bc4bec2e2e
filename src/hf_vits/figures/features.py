"""Pictures of what a model learned without labels, a row per image.

Every function takes a model; pixel_values (images, channels, height, width) as the image processor made them; that
processor; and the path of the PNG to write. What is drawn at random is the same each time, so that the pictures of a
run can be compared.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_vits.evaluation.features import evaluating, plain_encoder
from hf_vits.pretraining.method import Column
from hf_vits.pretraining.pictures import attention_columns, component_columns

from .grid import ImageGrid, save_figure

SIDE = 1.6  # inches of a drawn image
_TITLE_HEIGHT = 0.2  # inches
GREY = 0.5  # drawn in place of hidden patches


def draw_method(model: PreTrainedModel, pixel_values: Tensor, processor, path: Path) -> None:
    """Draw the images and what a pretraining method makes of them: the columns that its `picture` method returns.

    The model and torch's random state stay as they were.
    """
    method: Any = type(model)
    _draw(model, method.picture, pixel_values, processor, path)


def draw_attention(model: PreTrainedModel, pixel_values: Tensor, processor, path: Path) -> None:
    """Draw what the class token of any encoder attends to in the last layer, a column per head.

    Example: `draw_attention(model, processor(images, return_tensors="pt")["pixel_values"], processor, Path("a.png"))`.

    Raises:
        ValueError: the encoder has no class token.
    """
    _draw(plain_encoder(model), attention_columns, pixel_values, processor, path)


def draw_patch_components(model: PreTrainedModel, pixel_values: Tensor, processor, path: Path) -> None:
    """Draw the first three principal components of any encoder's patch features as red, green and blue."""
    _draw(plain_encoder(model), component_columns, pixel_values, processor, path)


def _draw(
    model: PreTrainedModel,
    columns_of: Callable[[PreTrainedModel, Tensor], list[Column]],
    pixel_values: Tensor,
    processor,
    path: Path,
) -> None:
    with torch.no_grad(), torch.random.fork_rng(devices=[]), evaluating(model):
        columns = columns_of(model, pixel_values.to(model.device, model.dtype))
    draw_columns([Column("image", pixel_values), *columns], processor, path)


def draw_columns(columns: Sequence[Column], processor, path: Path) -> None:
    """Draw columns side by side; the first holds images, and maps are stretched to their size."""
    rows, _, height, width = columns[0].images.shape
    grid = ImageGrid(SIDE, SIDE * height / width, [_TITLE_HEIGHT] + [0] * (rows - 1), len(columns))
    for number, column in enumerate(columns):
        grid.add_title(0, number, column.title, fontsize=9)
        for row, image in enumerate(shown(column, processor)):
            if column.is_map:
                grid.add(row, number, image, interpolation="nearest")
            else:
                grid.add(row, number, image, cmap="gray", vmin=0, vmax=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(grid.figure, path)


def shown(column: Column, processor) -> np.ndarray:
    """Return what is drawn of a column: (images, height, width[, 3]), from 0 to 1 unless it holds maps."""
    if column.is_map:
        return column.images.float().cpu().numpy()
    images = denormalized(column.images, processor)
    return images if column.hidden is None else hide(images, column.hidden)


def denormalized(pixel_values: Tensor, processor) -> np.ndarray:
    """Return images (images, height, width[, 3]) from 0 to 1 as they were before `processor` normalised them."""
    images = pixel_values.float().cpu()
    if processor.do_normalize:
        mean, std = (torch.as_tensor(value).view(-1, 1, 1) for value in (processor.image_mean, processor.image_std))
        images = images * std + mean
    images = images.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return images[..., 0] if images.shape[-1] == 1 else images


def hide(images: np.ndarray, masks: Tensor) -> np.ndarray:
    """Return images with grey in place of the patches where `masks` (images, rows, columns) is True."""
    height, width = images.shape[1:3]
    pixels = torch.nn.functional.interpolate(masks[:, None].float().cpu(), size=(height, width))[:, 0].numpy() > 0
    return np.where(pixels.reshape(*pixels.shape, *[1] * (images.ndim - 3)), GREY, images)
