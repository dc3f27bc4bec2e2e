"""CMT: transformer layers with depth-wise convolutions, and attention to a downsampled feature map.

Guo et al., "CMT: Convolutional Neural Networks Meet Vision Transformers", arXiv 2107.06263; ggjy/CMT.pytorch (cmt.py).
"""

import math
from typing import Any

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...configuration import pair
from ...layers.attention import Attention, attend
from ...layers.convolution import ConvPositionEmbedding, to_map, to_tokens
from ...layers.patch import ConvEmbedding, check_pixel_values
from ...layers.stages import Stage
from ...layers.transformer import drop_path_rates_of_stages
from ...modeling import EncoderOutput, ForImageClassification, HierarchicalBackbone, VitsHierarchicalPreTrainedModel
from .configuration_cmt import CmtConfig


def grid_of(config: CmtConfig, stride: int) -> tuple[int, int]:
    """Return (height, width) of a feature map with a token every `stride` pixels."""
    height, width = pair(config.image_size)
    return height // stride, width // stride


class CmtEmbeddings(nn.Module):
    """Stem of three convolutions, each with activation and batch norm, then a patch embedding of 2x2 cells."""

    def __init__(self, config: CmtConfig):
        super().__init__()
        self.image_size = pair(config.image_size)
        channels = config.stem_hidden_size
        layers = []
        for in_channels, stride in ((config.num_channels, 2), (channels, 1), (channels, 1)):
            layers.append(nn.Conv2d(in_channels, channels, 3, stride, padding=1))
            layers += [ACT2FN[config.hidden_act], nn.BatchNorm2d(channels)]
        self.stem = nn.Sequential(*layers)
        self.patch_embedding = ConvEmbedding(channels, config.hidden_sizes[0], 2)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, hidden_size, height / 4, width / 4).

        Raises ValueError for any size other than `config.image_size`.
        """
        height, width = pixel_values.shape[-2:]
        if (height, width) != self.image_size:
            made_for = "x".join(map(str, self.image_size))
            raise ValueError(
                f"pixel_values of {height}x{width} do not fit this model, whose position biases are for {made_for} "
                "alone: resize them, as the image processor does, or convert its original checkpoint with another "
                "image_size, which resizes the biases"
            )
        first: Any = self.stem[0]
        return self.patch_embedding(self.stem(pixel_values.to(first.weight.dtype)))


class CmtAttention(Attention):
    """Self-attention whose keys and values come from a feature map downsampled by a depth-wise convolution."""

    def __init__(self, config: CmtConfig, stage: int):
        hidden_size, num_heads = config.hidden_sizes[stage], config.num_attention_heads[stage]
        super().__init__(config, (hidden_size // num_heads) ** -0.5, config.attention_probs_dropout_prob)
        self.num_heads = num_heads
        ratio = config.sequence_reduction_ratios[stage]
        self.reduction = None
        if ratio > 1:
            convolution = nn.Conv2d(hidden_size, hidden_size, ratio, ratio, groups=hidden_size)
            self.reduction = nn.Sequential(convolution, nn.BatchNorm2d(hidden_size))
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], position_bias: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute self-attention.

        Args:
            hidden_states: (batch, rows * columns, hidden_size).
            position_bias: (heads, queries, keys).

        Returns:
            The shape of `hidden_states`, and the probabilities, None unless the implementation is eager.
        """
        query = self.query(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        if self.reduction is not None:
            hidden_states = to_tokens(self.reduction(to_map(hidden_states, grid)))
        key, value = self.key_value(hidden_states).unflatten(-1, (2, self.num_heads, -1)).unbind(2)
        attended, probabilities = attend(
            self, query, key.transpose(1, 2), value.transpose(1, 2), position_bias[None], **kwargs
        )
        return self.dropout(self.projection(attended.flatten(2))), probabilities


class CmtFeedForward(nn.Module):
    """Inverted residual: 1x1 expansion, 3x3 depth-wise with residual, 1x1 projection; activations before norms."""

    def __init__(self, config: CmtConfig, stage: int):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        intermediate_size = int(hidden_size * config.mlp_ratio)
        self.expansion = nn.Sequential(
            nn.Conv2d(hidden_size, intermediate_size, 1), ACT2FN[config.hidden_act], nn.BatchNorm2d(intermediate_size)
        )
        self.depthwise = ConvPositionEmbedding(intermediate_size)
        self.projection = nn.Sequential(
            ACT2FN[config.hidden_act],
            nn.BatchNorm2d(intermediate_size),
            nn.Conv2d(intermediate_size, hidden_size, 1),
            nn.BatchNorm2d(hidden_size),
        )
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Map (batch, rows * columns, hidden_size) to the same shape."""
        expanded = self.dropout(self.expansion(to_map(hidden_states, grid)))
        return self.dropout(to_tokens(self.projection(self.depthwise(expanded))))


class CmtLayer(GradientCheckpointingLayer):
    """Local perception unit (depth-wise convolution), then x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: CmtConfig, stage: int, drop_path_rate: float):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        self.local_perception = ConvPositionEmbedding(hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.attention = CmtAttention(config, stage)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = CmtFeedForward(config, stage)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], position_bias: torch.Tensor, **kwargs
    ) -> torch.Tensor:
        """Map (batch, rows * columns, hidden_size) to the same shape."""
        hidden_states = to_tokens(self.local_perception(to_map(hidden_states, grid)))
        attended, _ = self.attention(self.attention_norm(hidden_states), grid, position_bias, **kwargs)
        hidden_states = hidden_states + self.drop_path(attended)
        return hidden_states + self.drop_path(self.feed_forward(self.feed_forward_norm(hidden_states), grid))


class CmtStage(Stage):
    """Stage: patch embedding of 2x2 cells, except in the first stage, and layers that share one position bias."""

    def __init__(self, config: CmtConfig, stage: int, drop_path_rates: list[float]):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        self.embeddings = ConvEmbedding(config.hidden_sizes[stage - 1], hidden_size, 2) if stage else None
        queries, keys = (
            math.prod(grid_of(config, stride)) for stride in (config.query_stride(stage), config.key_stride(stage))
        )
        self.position_bias = nn.Parameter(torch.zeros(config.num_attention_heads[stage], queries, keys))
        self.layers = nn.ModuleList(CmtLayer(config, stage, rate) for rate in drop_path_rates)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, channels, height, width) to (batch, channels, height, width)."""
        if self.embeddings is not None:
            hidden_states = self.embeddings(hidden_states)
        grid = tuple(hidden_states.shape[-2:])
        tokens = to_tokens(hidden_states)
        for layer in self.layers:
            tokens = layer(tokens, grid, self.position_bias, **kwargs)
        return to_map(tokens, grid)


class CmtPooler(nn.Module):
    """1x1 convolution to more channels, batch norm and Swish, then the mean over the feature map."""

    def __init__(self, config: CmtConfig):
        super().__init__()
        self.projection = nn.Sequential(
            nn.Conv2d(config.hidden_size, config.pooler_size, 1), nn.BatchNorm2d(config.pooler_size), nn.SiLU()
        )
        self.dropout = nn.Dropout(config.classifier_dropout_prob)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, hidden_size, height, width) to (batch, pooler_size)."""
        return self.dropout(self.projection(hidden_states).mean(dim=(2, 3)))


class CmtPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = CmtConfig
    _no_split_modules = ["CmtLayer"]
    _supports_flash_attn = False  # flash attention supports no bias

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise convolutions Kaiming normal (fan-out), position biases standard normal."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out")
            init.zeros_(module.bias)
        elif isinstance(module, CmtStage):
            init.normal_(module.position_bias)
        else:
            super()._init_weights(module)


class CmtModel(CmtPreTrainedModel):
    """CMT encoder. `pooler_output` is the mean of the last feature map after a projection, batch norm and Swish.

    Args:
        add_pooling_layer: whether that projection exists and `pooler_output` is computed.
    """

    _input_embed_layer = "stem"

    def __init__(self, config: CmtConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = CmtEmbeddings(config)
        rates = drop_path_rates_of_stages(config.drop_path_rate, config.depths)
        self.stages = nn.ModuleList(CmtStage(config, stage, own) for stage, own in enumerate(rates))
        self.pooler = CmtPooler(config) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width) of `config.image_size`, normalised by the image
                processor.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        hidden_states = self.embeddings(pixel_values)
        for stage in self.stages:
            hidden_states = stage(hidden_states, **kwargs)
        pooled = None if self.pooler is None else self.pooler(hidden_states)
        return EncoderOutput(last_hidden_state=to_tokens(hidden_states), pooler_output=pooled)


class CmtForImageClassification(ForImageClassification, CmtPreTrainedModel):
    """CMT with a linear classifier on its pooled output."""

    model_class = CmtModel


class CmtBackbone(HierarchicalBackbone, CmtPreTrainedModel):
    """CMT that returns the feature map of each stage, for detection and segmentation heads."""

    model_class = CmtModel


__all__ = ["CmtBackbone", "CmtForImageClassification", "CmtModel", "CmtPreTrainedModel"]
