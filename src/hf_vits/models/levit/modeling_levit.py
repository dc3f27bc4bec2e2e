"""LeViT: a convolutional stem, attention with a learned bias per distance, and batch norms that can be folded.

Graham et al., "LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference", arXiv 2104.01136;
facebookresearch/LeViT (levit.py).
"""

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
from ...layers.convolution import ConvNorm, to_map, to_tokens
from ...layers.patch import check_pixel_values
from ...layers.relative_position import DistanceBias
from ...layers.stages import Stage
from ...modeling import (
    DistilledImageClassification,
    EncoderOutput,
    HierarchicalBackbone,
    VitsHierarchicalPreTrainedModel,
)
from .batch_norm_levit import LinearNorm, NormLinear, TokenBatchNorm
from .configuration_levit import LevitConfig

STEM_STRIDE = 16


def grid_of(height: int, width: int, stage: int) -> tuple[int, int]:
    """Return a stage's (height, width) in tokens for an image in pixels; every halving rounds up."""
    stride = STEM_STRIDE * 2**stage
    return -(-height // stride), -(-width // stride)


def split_heads(tokens: torch.Tensor, num_heads: int, sizes: list[int]) -> tuple[torch.Tensor, ...]:
    """Map (batch, tokens, heads * sum(sizes)) to a (batch, heads, tokens, size) for each of `sizes`."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2).split(sizes, dim=-1)


class LevitEmbeddings(nn.Module):
    """Stem of four convolutions of stride 2 with activations between them."""

    def __init__(self, config: LevitConfig):
        super().__init__()
        hidden_size = config.hidden_sizes[0]
        channels = [config.num_channels, hidden_size // 8, hidden_size // 4, hidden_size // 2, hidden_size]
        activations = [config.hidden_act] * 3 + [None]
        self.projection = nn.Sequential(
            *(
                ConvNorm(channels[index], channels[index + 1], 3, stride=2, activation=activation)
                for index, activation in enumerate(activations)
            )
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, hidden_size, rows, columns)."""
        first: Any = self.projection[0]
        return self.projection(pixel_values.to(first[0].weight.dtype))


class LevitAttention(Attention):
    """Self-attention with a bias per distance and values wider than keys."""

    def __init__(self, config: LevitConfig, stage: int):
        key_dim = config.key_dims[stage]
        super().__init__(config, key_dim**-0.5)
        hidden_size = config.hidden_sizes[stage]
        self.num_heads = config.num_attention_heads[stage]
        self.head_sizes = [key_dim, key_dim, int(config.attention_ratio * key_dim)]
        self.qkv = LinearNorm(hidden_size, self.num_heads * sum(self.head_sizes))
        self.position_bias = DistanceBias(grid_of(*pair(config.image_size), stage), self.num_heads)
        self.activation = ACT2FN[config.hidden_act]
        self.projection = LinearNorm(self.num_heads * self.head_sizes[-1], hidden_size, initial_weight=0.0)

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, rows * columns, hidden_size) to the same shape; also returns probabilities or None."""
        query, key, value = split_heads(self.qkv(hidden_states), self.num_heads, self.head_sizes)
        attended, probabilities = attend(self, query, key, value, self.position_bias(grid), **kwargs)
        return self.projection(self.activation(attended.flatten(2))), probabilities


class LevitDownsamplingAttention(Attention):
    """Downsampling attention: tokens of every second row and column attend to all tokens, with more channels."""

    def __init__(self, config: LevitConfig, stage: int):
        key_dim = config.key_dim_between
        super().__init__(config, key_dim**-0.5)
        hidden_size = config.hidden_sizes[stage - 1]
        self.num_heads = hidden_size // key_dim
        self.head_sizes = [key_dim, int(config.downsampling_attention_ratio * key_dim)]
        self.query = LinearNorm(hidden_size, self.num_heads * key_dim)
        self.key_value = LinearNorm(hidden_size, self.num_heads * sum(self.head_sizes))
        grid = grid_of(*pair(config.image_size), stage - 1)
        self.position_bias = DistanceBias(grid, self.num_heads, query_stride=2)
        self.activation = ACT2FN[config.hidden_act]
        self.projection = LinearNorm(self.num_heads * self.head_sizes[-1], config.hidden_sizes[stage])

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, rows * columns, hidden_size) to a quarter of the tokens, with the next stage's channels."""
        every_second = hidden_states.unflatten(1, grid)[:, ::2, ::2].flatten(1, 2)
        (query,) = split_heads(self.query(every_second), self.num_heads, self.head_sizes[:1])
        key, value = split_heads(self.key_value(hidden_states), self.num_heads, self.head_sizes)
        attended, probabilities = attend(self, query, key, value, self.position_bias(grid), **kwargs)
        return self.projection(self.activation(attended.flatten(2))), probabilities


class LevitMLP(nn.Module):
    """Two linear layers with batch norms, and an activation between them."""

    def __init__(self, config: LevitConfig, stage: int):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        intermediate_size = int(hidden_size * config.mlp_ratio)
        self.up = LinearNorm(hidden_size, intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.down = LinearNorm(intermediate_size, hidden_size, initial_weight=0.0)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to the same shape."""
        return self.down(self.activation(self.up(hidden_states)))


class LevitLayer(GradientCheckpointingLayer):
    """x + attention(x), then x + mlp(x), each branch with stochastic depth."""

    def __init__(self, config: LevitConfig, stage: int):
        super().__init__()
        self.attention = LevitAttention(config, stage)
        self.mlp = LevitMLP(config, stage)
        self.drop_path = StochasticDepth(config.drop_path_rate, mode="row")

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs) -> torch.Tensor:
        """Map (batch, rows * columns, hidden_size) to the same shape."""
        attended, _ = self.attention(hidden_states, grid, **kwargs)
        hidden_states = hidden_states + self.drop_path(attended)
        return hidden_states + self.drop_path(self.mlp(hidden_states))


class LevitDownsampling(GradientCheckpointingLayer):
    """Downsampling between stages: attention without residual, then x + mlp(x) with stochastic depth."""

    def __init__(self, config: LevitConfig, stage: int):
        super().__init__()
        self.attention = LevitDownsamplingAttention(config, stage)
        self.mlp = LevitMLP(config, stage)
        self.drop_path = StochasticDepth(config.drop_path_rate, mode="row")

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs) -> torch.Tensor:
        """Map (batch, rows * columns, hidden_size) to a quarter of the tokens with the stage's channels."""
        hidden_states, _ = self.attention(hidden_states, grid, **kwargs)
        return hidden_states + self.drop_path(self.mlp(hidden_states))


class LevitStage(Stage):
    """Stage: downsampling, except in the first stage, and layers."""

    def __init__(self, config: LevitConfig, stage: int):
        super().__init__()
        self.downsampling = LevitDownsampling(config, stage) if stage else None
        self.layers = nn.ModuleList(LevitLayer(config, stage) for _ in range(config.depths[stage]))

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, channels, height, width) to (batch, channels, height, width)."""
        rows, columns = hidden_states.shape[-2:]
        tokens = to_tokens(hidden_states).contiguous()
        if self.downsampling is not None:
            tokens = self.downsampling(tokens, (rows, columns), **kwargs)
            rows, columns = -(-rows // 2), -(-columns // 2)
        for layer in self.layers:
            tokens = layer(tokens, (rows, columns), **kwargs)
        return to_map(tokens, (rows, columns))


class LevitPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = LevitConfig
    _no_split_modules = ["LevitLayer", "LevitDownsampling"]
    _supports_flash_attn = False  # flash attention supports no bias

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise linear layers as PyTorch, except the classifiers, which have a bias; attention biases zero."""
        if isinstance(module, nn.Linear) and module.bias is None:
            init.kaiming_uniform_(module.weight, a=5**0.5)
            return
        super()._init_weights(module)
        if isinstance(module, DistanceBias):
            init.zeros_(module.table)
        elif isinstance(module, TokenBatchNorm):
            init.constant_(module.weight, module.initial_weight)


class LevitModel(LevitPreTrainedModel):
    """LeViT encoder. `pooler_output` is the mean of the tokens.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: LevitConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.add_pooling_layer = add_pooling_layer
        self.embeddings = LevitEmbeddings(config)
        self.stages = nn.ModuleList(LevitStage(config, stage) for stage in range(len(config.depths)))
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor, with no more tokens
                along height and width than an image of `config.image_size` has.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        self.check_size(*pixel_values.shape[-2:])
        hidden_states = self.embeddings(pixel_values)
        for stage in self.stages:
            hidden_states = stage(hidden_states, **kwargs)
        tokens = to_tokens(hidden_states)
        return EncoderOutput(
            last_hidden_state=tokens, pooler_output=tokens.mean(dim=1) if self.add_pooling_layer else None
        )

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError if tokens can be further apart than the learned biases reach."""
        rows, columns = grid_of(*pair(self.config.image_size), 0)
        if height > rows * STEM_STRIDE or width > columns * STEM_STRIDE:
            raise ValueError(
                f"pixel_values of {height}x{width} are larger than {rows * STEM_STRIDE}x{columns * STEM_STRIDE}, the "
                f"largest that the attention biases of image_size={self.config.image_size} reach across: resize them, "
                "as the image processor does, or train a model with a larger image_size"
            )


class LevitForImageClassification(DistilledImageClassification, LevitPreTrainedModel):
    """LeViT with one classifier, or two whose logits are averaged, each a batch norm and a linear layer."""

    model_class = LevitModel

    @staticmethod
    def make_classifier(config: LevitConfig) -> NormLinear:
        return NormLinear(config.pooler_size, config.num_labels)


class LevitBackbone(HierarchicalBackbone, LevitPreTrainedModel):
    """LeViT that returns the feature map of each stage, for detection and segmentation heads."""

    model_class = LevitModel


__all__ = ["LevitBackbone", "LevitForImageClassification", "LevitModel", "LevitPreTrainedModel"]
