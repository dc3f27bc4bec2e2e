"""Columns of a method's picture that are drawn from the features of an encoder.

Every function takes an encoder in evaluation mode, without gradients, and pixel_values (images, channels, height,
width) on its device.
"""

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from transformers import PreTrainedModel

from ..layers.patch import square_grid
from .class_attention import LastAttention
from .method import Column


def class_attention(encoder: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """Return the class token's attention in the last layer (images, heads, rows, columns), on the CPU.

    Raises:
        ValueError: the encoder has no class token.
    """
    with LastAttention(encoder) as last:
        encoder(pixel_values)
    attention = last.of_each_head().cpu()
    return attention.unflatten(2, square_grid(attention.shape[2], pixel_values.shape[-2:]))


def attention_columns(encoder: PreTrainedModel, pixel_values: Tensor) -> list[Column]:
    """Return the class token's attention, a column per head (facebookresearch/dino, visualize_attention.py).

    Raises:
        ValueError: the encoder has no class token.
    """
    heads = class_attention(encoder, pixel_values).unbind(dim=1)
    return [Column(f"head {number}", head, is_map=True) for number, head in enumerate(heads, start=1)]


def component_columns(encoder: PreTrainedModel, pixel_values: Tensor) -> list[Column]:
    """Return the first three principal components of all patch features as red, green and blue, in one column."""
    tokens, grid = patch_tokens(encoder, pixel_values)
    components = PCA(3, random_state=0).fit_transform(tokens.flatten(0, 1).numpy())
    low, high = np.percentile(components, (1, 99), axis=0)
    colours = ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    return [Column("components", torch.from_numpy(colours).view(len(pixel_values), *grid, 3), is_map=True)]


def patch_tokens(encoder: PreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return the patches of the last hidden state (images, patches, channels), float32 on the CPU, and their grid."""
    tokens = encoder(pixel_values).last_hidden_state
    tokens = tokens[:, encoder.config.num_prefix_tokens :].float().cpu()
    return tokens, square_grid(tokens.shape[1], pixel_values.shape[-2:])
