"""PVT: hierarchical vision transformer whose attention has downsampled keys and values.

Wang et al., "Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions", arXiv
2102.12122; whai362/PVT (classification/pvt.py, v1), ofsoundof/LocalViT (models/pvt.py, models/localvit_pvt.py).
"""

from itertools import accumulate
from operator import mul

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...configuration import pair
from ...layers.attention import Attention, attend
from ...layers.convolution import to_map, to_tokens
from ...layers.locality import make_feed_forward
from ...layers.patch import ConvEmbedding, check_pixel_values
from ...layers.position import PositionEmbedding
from ...layers.stages import TokenStage
from ...layers.transformer import drop_path_rates_of_stages
from ...modeling import EncoderOutput, ForImageClassification, HierarchicalBackbone, VitsHierarchicalPreTrainedModel
from .configuration_pvt import PvtConfig


class PvtAttention(Attention):
    """Self-attention whose keys and values come from a feature map downsampled by a patch embedding."""

    def __init__(self, config: PvtConfig, stage: int):
        hidden_size, num_heads = config.hidden_sizes[stage], config.num_attention_heads[stage]
        super().__init__(config, (hidden_size // num_heads) ** -0.5, config.attention_probs_dropout_prob)
        self.num_heads = num_heads
        ratio = config.sequence_reduction_ratios[stage]
        eps = config.embedding_norm_eps
        self.reduction = ConvEmbedding(hidden_size, hidden_size, ratio, eps=eps) if ratio > 1 else None
        self.query = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size, bias=config.qkv_bias)
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, prefix + rows * columns, hidden_size) to the same shape; also returns probabilities or None."""
        query = self.query(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        if self.reduction is not None:
            hidden_states = to_tokens(self.reduction(to_map(hidden_states, grid)))
        key, value = self.key_value(hidden_states).unflatten(-1, (2, self.num_heads, -1)).unbind(2)
        attended, probabilities = attend(self, query, key.transpose(1, 2), value.transpose(1, 2), **kwargs)
        return self.dropout(self.projection(attended.flatten(2))), probabilities


class PvtLayer(GradientCheckpointingLayer):
    """x + attention(norm(x)), then the feed-forward of `config.feed_forward`."""

    def __init__(self, config: PvtConfig, stage: int, drop_path_rate: float):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        self.attention_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.attention = PvtAttention(config, stage)
        intermediate_size = int(hidden_size * config.mlp_ratios[stage])
        squeeze_size = config.squeeze_sizes[stage]
        self.feed_forward = make_feed_forward(config, hidden_size, intermediate_size, squeeze_size, drop_path_rate)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs) -> torch.Tensor:
        """Map (batch, prefix + rows * columns, hidden_size) to the same shape."""
        attended, _ = self.attention(self.attention_norm(hidden_states), grid, **kwargs)
        return self.feed_forward(hidden_states + self.drop_path(attended), grid)


def make_stage(config: PvtConfig, stage: int, grid: tuple[int, int], rates: list[float]) -> TokenStage:
    """Make stage number `stage`, with position embeddings; only the last stage has a class token."""
    hidden_size, is_last = config.hidden_sizes[stage], stage == len(config.depths) - 1
    return TokenStage(
        make_embeddings(config, stage) if stage else None,
        [PvtLayer(config, stage, rate) for rate in rates],
        class_token_size=hidden_size if is_last else None,
        position_embedding=PositionEmbedding(grid, hidden_size, int(is_last), interpolation="bilinear"),
        dropout=config.hidden_dropout_prob,
    )


def make_embeddings(config: PvtConfig, stage: int) -> ConvEmbedding:
    """Make a stage's patch embedding."""
    in_channels = config.hidden_sizes[stage - 1] if stage else config.num_channels
    patch_size = config.patch_sizes[stage]
    return ConvEmbedding(in_channels, config.hidden_sizes[stage], patch_size, eps=config.embedding_norm_eps)


def stage_grids(config: PvtConfig, height: int, width: int) -> list[tuple[int, int]]:
    """Return every stage's (height, width) in tokens for an image in pixels; ValueError for one too small."""
    strides = list(accumulate(config.patch_sizes, mul))
    least = max(stride * ratio for stride, ratio in zip(strides, config.sequence_reduction_ratios, strict=True))
    if min(height, width) < least:
        raise ValueError(
            f"an image of {height}x{width} pixels is too small for patch_sizes={config.patch_sizes} and "
            f"sequence_reduction_ratios={config.sequence_reduction_ratios}: both sides must be at least {least}"
        )
    return [(height // stride, width // stride) for stride in strides]


class PvtPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = PvtConfig
    _no_split_modules = ["PvtLayer"]


class PvtModel(PvtPreTrainedModel):
    """PVT encoder. `pooler_output` is the class token, which only the last stage has.

    Args:
        add_pooling_layer: whether the final norm exists and `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: PvtConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = make_embeddings(config, stage=0)
        rates = drop_path_rates_of_stages(config.drop_path_rate, config.depths)
        stages = zip(stage_grids(config, *pair(config.image_size)), rates, strict=True)
        self.stages = nn.ModuleList(make_stage(config, stage, *own) for stage, own in enumerate(stages))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor. Pixels at the right
                and lower border that fill no patch are left out.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        stage_grids(self.config, *pixel_values.shape[-2:])
        hidden_states = self.embeddings(pixel_values)
        for stage in self.stages:
            hidden_states, prefix = stage(hidden_states, **kwargs)
        return self.normed_and_pooled(torch.cat([prefix, to_tokens(hidden_states)], dim=1))


class PvtForImageClassification(ForImageClassification, PvtPreTrainedModel):
    """PVT with a linear classifier on its class token."""

    model_class = PvtModel


class PvtBackbone(HierarchicalBackbone, PvtPreTrainedModel):
    """PVT that returns the feature map of each stage, for detection and segmentation heads."""

    model_class = PvtModel


__all__ = ["PvtBackbone", "PvtForImageClassification", "PvtModel", "PvtPreTrainedModel"]
