"""Compact Transformers: ViT-Lite, CVT and CCT.

Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", arXiv 2104.05704;
SHI-Labs/Compact-Transformers (src/utils/transformers.py, src/utils/tokenizer.py).
"""

import math

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...layers.attention import SelfAttention
from ...layers.mlp import MLP
from ...layers.patch import check_pixel_values, pair
from ...layers.pooling import SequencePooling, TokenPooling
from ...layers.position import PositionEmbedding, SequencePositionEmbedding, SinePositionEmbedding
from ...layers.transformer import drop_path_rates
from ...modeling import EncoderOutput, ForImageClassification, IsotropicBackbone, VitsPreTrainedModel
from .configuration_cct import CctConfig
from .tokenizer_cct import ConvTokenizer, Window


class CctEmbeddings(nn.Module):
    """Tokens of a convolutional tokenizer, after the class token, with positions."""

    def __init__(self, config: CctConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.patch_size = config.patch_size
        self.tokenizer = self.make_tokenizer(config)
        count = config.num_prefix_tokens
        self.prefix_tokens = nn.Parameter(torch.zeros(1, count, config.hidden_size)) if count else None
        self.position_embedding = self.make_position_embedding(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def make_tokenizer(self, config: CctConfig) -> ConvTokenizer:
        pool = Window.square(config.pool_kernel_size, config.pool_stride, config.pool_padding)
        return ConvTokenizer(
            [config.num_channels, *[config.conv_hidden_size] * (config.num_conv_layers - 1), config.hidden_size],
            Window.square(config.kernel_size, config.stride, config.padding),
            bias=config.conv_bias,
            activation=config.conv_act,
            pool=pool if config.use_max_pool else None,
        )

    def make_position_embedding(self, config: CctConfig) -> nn.Module | None:
        grid = self.grid(*pair(config.image_size))
        if config.position_embedding_type == "none":
            return None
        if config.position_embedding_type == "sine":
            return SinePositionEmbedding(config.num_prefix_tokens + math.prod(grid), config.hidden_size)
        return PositionEmbedding(grid, config.hidden_size, config.num_prefix_tokens, interpolation="bilinear")

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in tokens of an image of this size in pixels; ValueError where the size is not legal."""
        patch = self.patch_size
        if height % patch or width % patch:
            raise ValueError(
                f"an image of {height}x{width} pixels cannot be cut into patches of {patch}x{patch}: height and width "
                f"must be positive multiples of {patch}; resize or pad it, as the image processor does"
            )
        return self.tokenizer.grid(height, width)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, num_channels, height, width) to (batch, prefix + tokens, hidden_size)."""
        check_pixel_values(pixel_values, self.num_channels)
        grid = self.grid(*pixel_values.shape[-2:])
        tokens, _ = self.tokenizer(pixel_values)
        tokens = tokens.flatten(2).transpose(1, 2)
        if self.prefix_tokens is not None:
            tokens = torch.cat([self.prefix_tokens.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if isinstance(self.position_embedding, SinePositionEmbedding):
            tokens = tokens + self.position_embedding(tokens.shape[1])
        elif self.position_embedding is not None:
            tokens = tokens + self.position_embedding(grid)
        return self.dropout(tokens)


class CctLayer(GradientCheckpointingLayer):
    """h = norm(x + attention(norm(x))), then h + mlp(h): the second norm replaces the stream, residual included."""

    def __init__(self, config, drop_path_rate: float = 0.0):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = SelfAttention(
            config,
            config.hidden_size,
            config.num_attention_heads,
            qkv_bias=False,
            attention_dropout=config.attention_probs_dropout_prob,
            projection_dropout=config.hidden_dropout_prob,
        )
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.hidden_act, config.hidden_dropout_prob)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> torch.Tensor:
        """(batch, tokens, hidden_size) to the same shape."""
        attended, _ = self.attention(self.attention_norm(hidden_states), attention_mask, **kwargs)
        hidden_states = self.mlp_norm(hidden_states + self.drop_path(attended))
        return hidden_states + self.drop_path(self.mlp(hidden_states))


def make_layers(config) -> nn.ModuleList:
    """The encoder's layers, with stochastic depth rising linearly."""
    return nn.ModuleList(
        CctLayer(config, rate) for rate in drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
    )


def make_pooler(config) -> nn.Module:
    """From the tokens to what the classifier reads."""
    return SequencePooling(config.hidden_size) if config.pooling == "sequence" else TokenPooling()


class CctPreTrainedModel(VitsPreTrainedModel):
    config_class = CctConfig
    _no_split_modules = ["CctLayer"]
    _can_record_outputs = VitsPreTrainedModel._can_record_outputs | {"hidden_states": OutputRecorder(CctLayer)}

    @torch.no_grad()
    def _init_weights(self, module):
        """As the original: tables 0.2, linear layers 0.02, both truncated normal; convolutions Kaiming normal."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight)
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, PositionEmbedding | SequencePositionEmbedding):
            init.trunc_normal_(module.table, std=0.2)
        elif isinstance(module, SinePositionEmbedding):
            init.copy_(module.table, module.make_table(module.table.shape[1]))
        elif getattr(module, "prefix_tokens", None) is not None:
            init.zeros_(module.prefix_tokens)
        else:
            super()._init_weights(module)


class CctModel(CctPreTrainedModel):
    """Compact Transformer encoder.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    _input_embed_layer = "tokenizer"

    def __init__(self, config: CctConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = CctEmbeddings(config)
        self.layers = make_layers(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = make_pooler(config) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
        """
        hidden_states = self.embeddings(pixel_values)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        hidden_states = self.norm(hidden_states)
        pooled = self.pooler(hidden_states) if self.pooler is not None else None
        return EncoderOutput(last_hidden_state=hidden_states, pooler_output=pooled)


class CctForImageClassification(ForImageClassification, CctPreTrainedModel):
    """Compact Transformer with a linear classifier on its pooled output."""

    model_class = CctModel


class CctBackbone(IsotropicBackbone, CctPreTrainedModel):
    """Compact Transformer that returns feature maps, for detection and segmentation heads."""

    model_class = CctModel


__all__ = ["CctBackbone", "CctForImageClassification", "CctModel", "CctPreTrainedModel"]
