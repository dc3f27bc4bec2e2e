"""Early-conv ViT.

Pelosin et al., "Towards Exemplar-Free Continual Learning in Vision Transformers", arXiv 2203.13167;
srvCodes/continual_learning_with_vit (src/networks/early_conv_vit_net.py), after Xiao et al., "Early Convolutions Help
Transformers See Better", arXiv 2106.14881.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...configuration import pair
from ...layers.attention import SelfAttention
from ...layers.patch import check_pixel_values
from ...layers.transformer import TransformerLayer
from ...modeling import (
    EncoderOutput,
    ForImageClassification,
    IsotropicBackbone,
    VitsPreTrainedModel,
    init_as_torch,
    only_pooled_is_read,
)
from .configuration_early_conv_vit import EarlyConvViTConfig


class EarlyConvViTStem(nn.Sequential):
    """3x3 convolutions of stride 2, without norm or activation between them, then a 1x1 convolution."""

    def __init__(self, config: EarlyConvViTConfig):
        sizes = (config.num_channels, *config.stem_hidden_sizes)
        convolutions = [nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(sizes)]
        super().__init__(*convolutions, nn.Conv2d(sizes[-1], config.hidden_size, 1))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of the map of an image of this size in pixels: halved and rounded up each time."""
        stride = 2 ** (len(self) - 1)
        return -(-height // stride), -(-width // stride)


class EarlyConvViTPositions(nn.Module):
    """Table of positions, of which a sequence takes the first rows."""

    def __init__(self, num_positions: int, hidden_size: int):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, num_positions, hidden_size))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Add positions to tokens (batch, tokens, hidden_size)."""
        return tokens + self.table[:, : tokens.shape[1]]


class EarlyConvViTEmbeddings(nn.Module):
    """Class token and the cells of the stem's map, with the first rows of the position table."""

    def __init__(self, config: EarlyConvViTConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.stem = EarlyConvViTStem(config)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.num_positions = config.num_positions
        self.positions = EarlyConvViTPositions(config.num_positions, config.hidden_size)
        self.dropout = nn.Dropout(config.embedding_dropout_prob)
        self.check_positions(pair(config.image_size))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in tokens for an image size in pixels."""
        return self.stem.grid(height, width)

    def check_positions(self, size: Sequence[int]) -> None:
        """Raise ValueError unless the table has a position for each token of an image of `size` (height, width)."""
        rows, columns = self.grid(*size)
        if 1 + rows * columns > self.num_positions:
            raise ValueError(
                f"an image of {size[0]}x{size[1]} pixels has {1 + rows * columns} tokens, and num_positions is "
                f"{self.num_positions}: take smaller images, or a model with more positions"
            )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, 1 + rows * columns, hidden_size)."""
        check_pixel_values(pixel_values, self.num_channels)
        self.check_positions(pixel_values.shape[-2:])
        tokens = self.stem(pixel_values.to(self.class_token.dtype)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.dropout(self.positions(tokens))


class EarlyConvViTAttention(SelfAttention):
    """Self-attention whose heads together have num_attention_heads * head_dim channels."""

    def __init__(self, config: EarlyConvViTConfig, hidden_size: int, num_heads: int, **options: Any):
        super().__init__(config, hidden_size, num_heads, attention_size=num_heads * config.head_dim, **options)


class EarlyConvViTLayer(TransformerLayer):
    """Pre-norm transformer layer."""

    attention_class = EarlyConvViTAttention


class EarlyConvViTPreTrainedModel(VitsPreTrainedModel):
    """Base class of Early-conv ViT's models."""

    config_class = EarlyConvViTConfig
    _no_split_modules = ["EarlyConvViTLayer"]

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as the original: PyTorch's defaults, class token and positions standard normal."""
        if isinstance(module, EarlyConvViTEmbeddings):
            init.normal_(module.class_token)
        elif isinstance(module, EarlyConvViTPositions):
            init.normal_(module.table)
        elif isinstance(module, nn.Linear | nn.Conv2d):
            init_as_torch(module)
        else:
            super()._init_weights(module)


class EarlyConvViTModel(EarlyConvViTPreTrainedModel):
    """Early-conv ViT encoder. `pooler_output` is the class token, or the mean of all tokens.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    _input_embed_layer = "stem"

    def __init__(self, config: EarlyConvViTConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = EarlyConvViTEmbeddings(config)
        self.layers = nn.ModuleList(EarlyConvViTLayer(config) for _ in range(config.num_hidden_layers))
        self.add_pooling_layer = add_pooling_layer
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        prefix_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            prefix_only: compute only the class token of `last_hidden_state`.
        """
        hidden_states = self.embeddings(pixel_values)
        *layers, last_layer = self.layers
        for layer in layers:
            hidden_states = layer(hidden_states, **kwargs)
        hidden_states = last_layer(hidden_states, num_queries=1 if prefix_only else None, **kwargs)
        pooled = None
        if self.add_pooling_layer:
            pooled = hidden_states[:, 0] if self.config.pooling == "token" else hidden_states.mean(dim=1)
        return EncoderOutput(last_hidden_state=hidden_states, pooler_output=pooled)


class EarlyConvViTForImageClassification(ForImageClassification, EarlyConvViTPreTrainedModel):
    """Early-conv ViT with a linear classifier, which holds the heads of all tasks one after the other."""

    model_class = EarlyConvViTModel

    def encode(self, pixel_values: torch.Tensor | None, **kwargs) -> EncoderOutput:
        pools_token = self.config.pooling == "token"
        prefix_only = pools_token and only_pooled_is_read(self, self.model.layers[-1], kwargs)
        return self.model(pixel_values, prefix_only=prefix_only, return_dict=True, **kwargs)


class EarlyConvViTBackbone(IsotropicBackbone, EarlyConvViTPreTrainedModel):
    """Early-conv ViT that returns feature maps, for detection and segmentation heads."""

    model_class = EarlyConvViTModel


__all__ = [
    "EarlyConvViTBackbone",
    "EarlyConvViTForImageClassification",
    "EarlyConvViTModel",
    "EarlyConvViTPreTrainedModel",
]
