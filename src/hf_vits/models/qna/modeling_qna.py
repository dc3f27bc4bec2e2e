"""QnA-ViT: window attention, and local attention with learned queries.

Arar et al., "Learned Queries for Efficient Local Attention", arXiv 2112.11435; moabarar/qna (models/qna_vit.py).
"""

import math
from typing import Any

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...configuration import pair
from ...layers.attention import SelfAttention
from ...layers.convolution import ConvNorm, to_tokens
from ...layers.mlp import MLP
from ...layers.patch import check_pixel_values
from ...layers.relative_position import RelativePositionBias
from ...layers.stages import Stage
from ...layers.stems import pad_same
from ...layers.transformer import LayerScale, drop_path_rates_of_stages
from ...layers.window import merge, partition
from ...modeling import (
    EncoderOutput,
    ForImageClassification,
    HierarchicalBackbone,
    VitsHierarchicalPreTrainedModel,
    init_as_flax,
)
from .attention_qna import KeyScores, LearnedQueryAttention
from .configuration_qna import QnaConfig


def stage_grids(config: QnaConfig, height: int, width: int) -> list[tuple[int, int]]:
    """Return (rows, columns) of every stage's feature map for an image in pixels; sizes are rounded up."""
    strides = [4 * 2**stage for stage in range(len(config.depths))]
    return [(-(-height // stride), -(-width // stride)) for stride in strides]


def check_windows(config: QnaConfig, height: int, width: int) -> None:
    """Raise ValueError unless windows fill the feature maps of an image of this size in pixels."""
    windows = [size if depth else 1 for size, depth in zip(config.window_sizes, config.window_depths, strict=True)]
    for stage, (grid, window) in enumerate(zip(stage_grids(config, height, width), windows, strict=True)):
        if grid[0] % window or grid[1] % window:
            multiple = math.lcm(*(4 * 2**index * size for index, size in enumerate(windows)))
            raise ValueError(
                f"an image of {height}x{width} pixels has a map of {grid[0]}x{grid[1]} in stage {stage + 1}, which "
                f"windows of {window}x{window} do not fill: resize it to multiples of {multiple} pixels, or build the "
                "model with other window_sizes or window_depths"
            )


def check_pooling(config: QnaConfig, height: int, width: int) -> None:
    """Raise ValueError unless the last feature map has the size for which the pooling by learned queries is made."""
    (rows, columns), expected = stage_grids(config, height, width)[-1], pooling_size(config)
    if (rows, columns) != expected:
        raise ValueError(
            f"pooling={config.pooling!r} is made for a last map of {expected[0]}x{expected[1]}, as "
            f"image_size={config.image_size} gives, and an image of {height}x{width} pixels gives one of "
            f"{rows}x{columns}: resize it, or build the model with that image_size"
        )


def pooling_size(config: QnaConfig) -> tuple[int, int]:
    """Return the kernel size of a pooling by learned queries: (rows, columns) of the last feature map."""
    return stage_grids(config, *pair(config.image_size))[-1]


class QnaEmbeddings(nn.Module):
    """Stem of stride 4 with SAME padding: patches of 4x4 pixels, or a ResNet's first convolution and max-pooling."""

    def __init__(self, config: QnaConfig):
        super().__init__()
        self.stem_type = config.stem_type
        hidden_size = config.stem_size
        if config.stem_type == "resnet":
            self.projection = ConvNorm(config.num_channels, hidden_size, 7, 2, 0, activation=config.hidden_act)
        else:
            self.projection = nn.Sequential(nn.Conv2d(config.num_channels, hidden_size, 4, 4, bias=False))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, hidden_size, rows, columns)."""
        first: Any = self.projection[0]
        pixel_values = pixel_values.to(first.weight.dtype)
        if self.stem_type == "patch":
            return self.projection(pad_same(pixel_values, 4, 4))
        hidden_states = self.projection(pad_same(pixel_values, 7, 2))
        return nn.functional.max_pool2d(pad_same(hidden_states, 3, 2, value=float("-inf")), 3, 2)


class QnaWindowAttention(SelfAttention):
    """Self-attention inside windows with relative position bias; linear layers have no bias."""

    def __init__(self, config: QnaConfig, stage: int):
        hidden_size, num_heads = config.hidden_sizes[stage], config.num_attention_heads[stage]
        dropout = config.attention_probs_dropout_prob
        super().__init__(config, hidden_size, num_heads, qkv_bias=False, attention_dropout=dropout)
        self.projection = nn.Linear(hidden_size, hidden_size, bias=False)
        self.position_bias = RelativePositionBias(pair(config.window_sizes[stage]), num_heads)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (windows, tokens, hidden_size) to the same shape; also returns probabilities or None."""
        return super().forward(hidden_states, self.position_bias(), **kwargs)


class QnaLayer(GradientCheckpointingLayer):
    """Base of QnA-ViT's pre-norm layers, each branch with optional layer scale and stochastic depth.

    Args:
        attention: maps (..., in_channels) to (..., hidden_size), channels last.
    """

    def __init__(
        self, config: QnaConfig, attention: nn.Module, in_channels: int, hidden_size: int, drop_path_rate: float
    ):
        super().__init__()
        self.attention_norm = nn.LayerNorm(in_channels, eps=config.layer_norm_eps)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(hidden_size, int(hidden_size * config.mlp_ratio), config.hidden_act)
        scale = config.layer_scale_init_value
        self.attention_scale = nn.Identity() if scale is None else LayerScale(hidden_size, scale)
        self.mlp_scale = nn.Identity() if scale is None else LayerScale(hidden_size, scale)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, ..., in_channels) to (batch, ..., hidden_size)."""
        hidden_states = self.mix(hidden_states, **kwargs)
        return hidden_states + self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(hidden_states))))

    def mix(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Compute the first half of the layer, attention with residual connection."""
        attended = self.attention_scale(self.attend(hidden_states, **kwargs))
        return hidden_states + self.drop_path(attended)

    def attend(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Compute norm and attention."""
        return self.attention(self.attention_norm(hidden_states))


class QnaWindowLayer(QnaLayer):
    """Layer of window attention, on windows (windows, tokens, hidden_size)."""

    def __init__(self, config: QnaConfig, stage: int, drop_path_rate: float):
        hidden_size = config.hidden_sizes[stage]
        super().__init__(config, QnaWindowAttention(config, stage), hidden_size, hidden_size, drop_path_rate)

    def attend(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        return self.attention(self.attention_norm(hidden_states), **kwargs)[0]


class QnaQueryLayer(QnaLayer):
    """Layer of attention with learned queries, on a feature map (batch, height, width, hidden_size)."""

    def __init__(self, config: QnaConfig, stage: int, drop_path_rate: float):
        hidden_size = config.hidden_sizes[stage]
        attention = learned_query_attention(config, stage, hidden_size, config.num_query_heads[stage])
        super().__init__(config, attention, hidden_size, hidden_size, drop_path_rate)


class QnaShortcut(nn.Module):
    """Residual connection of a downsampling layer: a 1x1 convolution of every second pixel or of window averages."""

    def __init__(self, in_channels: int, hidden_size: int, kernel_size: int, shortcut_type: str):
        super().__init__()
        # Averages count padding as zeros; SAME padding puts an odd row or column below and to the right.
        self.average_size = kernel_size if shortcut_type == "average" else None
        stride = 1 if self.average_size else 2
        self.projection = nn.Conv2d(in_channels, hidden_size, kernel_size=1, stride=stride, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, height, width, in_channels) to (batch, height / 2, width / 2, hidden_size)."""
        hidden_states = hidden_states.permute(0, 3, 1, 2)
        if self.average_size:
            padded = pad_same(hidden_states, self.average_size, 2)
            hidden_states = nn.functional.avg_pool2d(padded, self.average_size, 2)
        return self.projection(hidden_states).permute(0, 2, 3, 1)


class QnaDownsampling(QnaLayer):
    """Downsampling layer: attention with learned queries of stride 2, then an MLP; only the MLP is ever dropped."""

    def __init__(self, config: QnaConfig, stage: int, drop_path_rate: float):
        in_channels, hidden_size = config.hidden_sizes[stage - 1 : stage + 1]
        num_heads = 2 * config.num_query_heads[stage - 1]
        attention = learned_query_attention(config, stage - 1, hidden_size, num_heads, stride=2)
        super().__init__(config, attention, in_channels, hidden_size, drop_path_rate)
        kernel_size = config.kernel_sizes[stage - 1]
        self.shortcut = QnaShortcut(in_channels, hidden_size, kernel_size, config.shortcut_type)

    def mix(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        return self.shortcut(hidden_states) + self.attention_scale(self.attend(hidden_states))


def learned_query_attention(
    config: QnaConfig, stage: int, hidden_size: int, num_heads: int, stride: int = 1
) -> LearnedQueryAttention:
    """Make the attention with learned queries on the feature map of a stage."""
    return LearnedQueryAttention(
        config.hidden_sizes[stage],
        hidden_size,
        num_heads,
        config.kernel_sizes[stage],
        stride,
        num_queries=config.num_queries,
        attention_scale=config.attention_scale,
        normalize_queries=config.normalize_queries,
    )


class QnaStage(Stage):
    """Stage: downsampling, except in the first stage, layers of window attention, then layers of learned queries.

    Args:
        rates: stochastic depth rate of each layer, including the downsampling layer.
    """

    def __init__(self, config: QnaConfig, stage: int, rates: list[float]):
        super().__init__()
        self.window = pair(config.window_sizes[stage])
        self.window_depth = config.window_depths[stage]
        self.downsampling = QnaDownsampling(config, stage, rates[0]) if stage else None
        kinds = [QnaWindowLayer] * self.window_depth
        kinds += [QnaQueryLayer] * (config.depths[stage] - self.window_depth)
        rates = rates[-config.depths[stage] :]
        self.layers = nn.ModuleList(kind(config, stage, rate) for kind, rate in zip(kinds, rates, strict=True))

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, channels, height, width) to the stage's feature map."""
        # Layers use channels last, which is the memory layout of a previous stage's output.
        hidden_states = hidden_states.permute(0, 2, 3, 1).contiguous()
        if self.downsampling is not None:
            hidden_states = self.downsampling(hidden_states)
        if self.window_depth:
            grid = tuple(hidden_states.shape[1:3])
            windows = partition(hidden_states, self.window)
            for layer in self.layers[: self.window_depth]:
                windows = layer(windows, **kwargs)
            hidden_states = merge(windows, self.window, grid)
        for layer in self.layers[self.window_depth :]:
            hidden_states = layer(hidden_states)
        return hidden_states.permute(0, 3, 1, 2)


class QnaPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = QnaConfig
    _no_split_modules = ["QnaWindowLayer", "QnaQueryLayer", "QnaDownsampling"]

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Linear | nn.Conv2d | KeyScores):
            init_as_flax(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, LearnedQueryAttention):
            init_truncated(module.queries, module.head_dim**-0.5)
            init.zeros_(module.position_bias)
            if module.attention_scale_type == "learned_from_ones":
                init.ones_(module.attention_scale)
            elif module.attention_scale is not None:
                init.normal_(module.attention_scale, std=0.02)
        else:
            super()._init_weights(module)
            if isinstance(module, RelativePositionBias):
                init.zeros_(module.table)


def init_truncated(tensor: torch.Tensor, std: float) -> None:
    init.trunc_normal_(tensor, std=std, a=-2 * std, b=2 * std)


class QnaModel(QnaPreTrainedModel):
    """QnA-ViT encoder. `pooler_output` is the mean of the last feature map, or its attention by learned queries.

    Args:
        add_pooling_layer: whether the final norm exists and `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: QnaConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = QnaEmbeddings(config)
        # Every stage but the first has a downsampling layer with its own rate.
        depths = [depth + (stage > 0) for stage, depth in enumerate(config.depths)]
        rates = drop_path_rates_of_stages(config.drop_path_rate, depths)
        self.stages = nn.ModuleList(QnaStage(config, stage, own) for stage, own in enumerate(rates))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if add_pooling_layer else None
        self.pooler = None
        if add_pooling_layer and config.pooling != "mean":
            self.pooler = LearnedQueryAttention(
                config.hidden_size,
                config.hidden_size,
                config.num_query_heads[-1],
                kernel_size=pooling_size(config),
                padding=0,
            )
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor. Windows must fill
                the feature maps, ValueError otherwise; multiples of 224 pixels are legal with the published
                `window_sizes`.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        check_windows(self.config, *pixel_values.shape[-2:])
        if self.pooler is not None:
            check_pooling(self.config, *pixel_values.shape[-2:])
        hidden_states = self.embeddings(pixel_values)
        for stage in self.stages:
            hidden_states = stage(hidden_states, **kwargs)
        if self.norm is None:
            return EncoderOutput(last_hidden_state=to_tokens(hidden_states))
        hidden_states = self.norm(hidden_states.permute(0, 2, 3, 1))
        return EncoderOutput(last_hidden_state=hidden_states.flatten(1, 2), pooler_output=self.pool(hidden_states))

    def pool(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Pool the normalised last feature map (batch, height, width, hidden_size) to (batch, hidden_size)."""
        if self.pooler is None:
            return hidden_states.mean(dim=(1, 2))
        pooled = self.pooler(hidden_states).flatten(1)
        return pooled + hidden_states.mean(dim=(1, 2)) if self.config.pooling == "learned_query_and_mean" else pooled


class QnaForImageClassification(ForImageClassification, QnaPreTrainedModel):
    """QnA-ViT with a linear classifier on its pooled output."""

    model_class = QnaModel


class QnaBackbone(HierarchicalBackbone, QnaPreTrainedModel):
    """QnA-ViT that returns the feature map of each stage, for detection and segmentation heads.

    A stage's feature map is the output of its last layer, before the next stage's downsampling.
    """

    model_class = QnaModel


__all__ = ["QnaBackbone", "QnaForImageClassification", "QnaModel", "QnaPreTrainedModel"]
