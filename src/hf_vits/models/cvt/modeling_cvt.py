"""CvT: convolutional token embeddings and convolutional projections.

Wu et al., "CvT: Introducing Convolutions to Vision Transformers", arXiv 2103.15808; microsoft/CvT
(lib/models/cls_cvt.py). With attention in windows: microsoft/esvit (models/cvt_v4_transformer.py).
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.attention import Attention, SelfAttention, attend
from ...layers.convolution import ConvNorm, to_map, to_tokens
from ...layers.patch import ConvEmbedding, check_pixel_values
from ...layers.relative_position import RelativePositionBias
from ...layers.stages import TokenStage
from ...layers.transformer import PreNormLayer, drop_path_rates, drop_path_rates_of_stages
from ...layers.window import merge, pad_to_windows, partition
from ...modeling import EncoderOutput, ForImageClassification, HierarchicalBackbone, VitsHierarchicalPreTrainedModel
from .configuration_cvt import CvtConfig


def make_embeddings(config: CvtConfig, stage: int) -> ConvEmbedding:
    """Make a stage's embedding of overlapping patches."""
    return ConvEmbedding(
        config.hidden_sizes[stage - 1] if stage else config.num_channels,
        config.hidden_sizes[stage],
        kernel_size=config.patch_sizes[stage],
        stride=config.patch_strides[stage],
        padding=config.patch_paddings[stage],
        eps=config.layer_norm_eps,
    )


class CvtAttention(Attention):
    """Self-attention with a depth-wise convolution before queries, keys and values.

    Keys and values are downsampled. The class token skips the convolutions. Scores are scaled by
    1/sqrt(hidden_size), not 1/sqrt(head_dim).
    """

    def __init__(self, config: CvtConfig, stage: int):
        hidden_size = config.hidden_sizes[stage]
        super().__init__(config, hidden_size**-0.5, config.attention_probs_dropout_prob)
        self.num_heads = config.num_attention_heads[stage]
        stride, kernel_size = config.key_value_stride, config.kernel_sizes[stage]
        if config.key_value_projection == "convolution":
            self.query_reduction = ConvNorm(hidden_size, hidden_size, kernel_size, groups=hidden_size)
            self.key_reduction = ConvNorm(hidden_size, hidden_size, kernel_size, stride, groups=hidden_size)
            self.value_reduction = ConvNorm(hidden_size, hidden_size, kernel_size, stride, groups=hidden_size)
        else:
            self.query_reduction = nn.Identity()
            average = nn.AvgPool2d(kernel_size, stride, padding=kernel_size // 2, ceil_mode=True)
            self.key_reduction = self.value_reduction = average
        self.query = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.key = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.value = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, prefix + rows * columns, hidden_size) to the same shape; also returns probabilities or None."""
        count = hidden_states.shape[1] - grid[0] * grid[1]
        prefix, feature_map = hidden_states[:, :count], to_map(hidden_states[:, count:], grid)
        query = self.project(prefix, self.query_reduction(feature_map), self.query)
        key = self.project(prefix, self.key_reduction(feature_map), self.key)
        value = self.project(prefix, self.value_reduction(feature_map), self.value)
        attended, probabilities = attend(self, query, key, value, **kwargs)
        return self.dropout(self.projection(attended.flatten(2))), probabilities

    def project(self, prefix: torch.Tensor, feature_map: torch.Tensor, linear: nn.Linear) -> torch.Tensor:
        """Apply a linear layer to prefix tokens and a feature map: (batch, heads, tokens, head_dim)."""
        tokens = to_tokens(feature_map)
        if prefix.shape[1]:
            tokens = torch.cat([prefix, tokens], dim=1)
        return linear(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class CvtWindowAttention(SelfAttention):
    """Self-attention inside windows, after one depth-wise convolution.

    A feature map that windows do not fill is padded with zeros below and to the right before the convolution; padded
    tokens are attended to. On a smaller feature map, the window's side is the feature map's smaller side.
    """

    def __init__(self, config: CvtConfig, stage: int):
        hidden_size = config.hidden_sizes[stage]
        super().__init__(
            config,
            hidden_size,
            config.num_attention_heads[stage],
            qkv_bias=config.qkv_bias,
            attention_dropout=config.attention_probs_dropout_prob,
            projection_dropout=config.hidden_dropout_prob,
        )
        self.scaling = hidden_size**-0.5
        self.window_size = config.window_size
        self.convolution = ConvNorm(hidden_size, hidden_size, config.kernel_sizes[stage], groups=hidden_size)
        self.position_bias = None
        if config.use_relative_position_bias:
            self.position_bias = RelativePositionBias((self.window_size,) * 2, config.num_attention_heads[stage])

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, rows * columns, hidden_size) to the same shape; probabilities as in `WindowAttention`."""
        side = min(self.window_size, *grid)
        window = (side, side)
        padded = pad_to_windows(hidden_states.unflatten(1, grid), window)
        convolved = self.convolution(padded.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        attended, probabilities = super().forward(partition(convolved, window), self.bias(side), **kwargs)
        feature_map = merge(attended, window, tuple(padded.shape[1:3]))
        return feature_map[:, : grid[0], : grid[1]].flatten(1, 2), probabilities

    def bias(self, side: int) -> torch.Tensor | None:
        """Return the bias (1, heads, queries, keys) in a window of this side, no larger than `window_size`."""
        if self.position_bias is None:
            return None
        windows = (self.window_size,) * 2
        bias = self.position_bias().unflatten(3, windows).unflatten(2, windows)
        return bias[:, :, :side, :side, :side, :side].flatten(4).flatten(2, 3)


class CvtLayer(PreNormLayer):
    """Pre-norm layer with convolutional attention."""

    def __init__(self, config: CvtConfig, stage: int, drop_path_rate: float):
        super().__init__(config, config.hidden_sizes[stage], config.mlp_ratios[stage], drop_path_rate)
        attention_class = CvtAttention if config.window_size is None else CvtWindowAttention
        self.attention = attention_class(config, stage)

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs) -> torch.Tensor:
        """Map (batch, prefix + rows * columns, hidden_size) to the same shape."""
        attended, _ = self.attention(self.attention_norm(hidden_states), grid, **kwargs)
        return self.add(hidden_states, attended)


def rates_of_stages(config: CvtConfig) -> list[list[float]]:
    """Return the stochastic depth rates of each stage's layers."""
    if config.window_size is not None:
        return drop_path_rates_of_stages(config.drop_path_rate, config.depths)
    *before, last = config.depths
    return [[0.0] * depth for depth in before] + [drop_path_rates(config.drop_path_rate, last)]


def make_stage(config: CvtConfig, stage: int, rates: list[float]) -> TokenStage:
    """Make stage number `stage`, with a layer per stochastic depth rate; the last stage has the class token."""
    is_last = stage == len(config.depths) - 1
    return TokenStage(
        make_embeddings(config, stage) if stage else None,
        [CvtLayer(config, stage, rate) for rate in rates],
        class_token_size=config.hidden_size if config.use_class_token and is_last else None,
        dropout=config.hidden_dropout_prob,
    )


class CvtPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = CvtConfig
    _no_split_modules = ["CvtLayer"]

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as the base class; with windows, convolutions as linear layers."""
        if self.config.window_size is not None and isinstance(module, nn.Conv2d):
            init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class CvtModel(CvtPreTrainedModel):
    """CvT encoder. `pooler_output` is the class token, or the mean of the tokens where there is none.

    Args:
        add_pooling_layer: whether the final norm exists and `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: CvtConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = make_embeddings(config, stage=0)
        rates = rates_of_stages(config)
        self.stages = nn.ModuleList(make_stage(config, stage, rates[stage]) for stage in range(len(config.depths)))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width) of any size, normalised by the image processor.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        hidden_states = self.embeddings(pixel_values)
        for stage in self.stages:
            hidden_states, prefix = stage(hidden_states, **kwargs)
        return self.normed_and_pooled(torch.cat([prefix, to_tokens(hidden_states)], dim=1))


class CvtForImageClassification(ForImageClassification, CvtPreTrainedModel):
    """CvT with a linear classifier on its pooled output."""

    model_class = CvtModel


class CvtBackbone(HierarchicalBackbone, CvtPreTrainedModel):
    """CvT that returns the feature map of each stage, for detection and segmentation heads."""

    model_class = CvtModel


__all__ = ["CvtBackbone", "CvtForImageClassification", "CvtModel", "CvtPreTrainedModel"]
