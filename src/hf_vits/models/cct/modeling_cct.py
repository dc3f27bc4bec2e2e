"""Compact Transformers: ViT-Lite, CVT and CCT.

Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", arXiv 2104.05704;
SHI-Labs/Compact-Transformers (src/utils/transformers.py, src/utils/tokenizer.py).
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...configuration import pair
from ...layers.attention import SelfAttention
from ...layers.mlp import MLP
from ...layers.patch import check_pixel_values
from ...layers.pooling import SequencePooling, TokenPooling
from ...layers.position import PositionEmbedding, SequencePositionEmbedding, SinePositionEmbedding
from ...layers.transformer import drop_path_rates
from ...modeling import EncoderOutput, ForImageClassification, IsotropicBackbone, PreTrainedMixin, VitsPreTrainedModel
from .configuration_cct import CctBaseConfig, CctConfig
from .tokenizer_cct import ConvTokenizer, Window


class CctBaseEmbeddings(nn.Module):
    """Base of the embeddings of images and of text: tokenizer, class token, dropout; positions are the subclass's."""

    def __init__(self, config: CctBaseConfig, tokenizer: ConvTokenizer | None):
        super().__init__()
        self.tokenizer = tokenizer
        count = config.num_prefix_tokens
        self.prefix_tokens = nn.Parameter(torch.zeros(1, count, config.hidden_size)) if count else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def add_prefix(self, tokens: torch.Tensor) -> torch.Tensor:
        """Put the class token, if there is one, in front of (batch, tokens, hidden_size)."""
        if self.prefix_tokens is None:
            return tokens
        return torch.cat([self.prefix_tokens.expand(tokens.shape[0], -1, -1), tokens], dim=1)


def make_tokenizer(
    config: CctBaseConfig, channels: list[int], window: Callable[[int, int, int], Window], bias: bool = False
) -> ConvTokenizer:
    """Make the convolutional tokenizer of a configuration.

    Args:
        channels: of the input, of every feature map between convolutions, and of the tokens.
        window: makes the window of a (kernel size, stride, padding): `Window.square` or `Window.along_sequence`.
        bias: whether the convolutions have a bias.
    """
    pool = window(config.pool_kernel_size, config.pool_stride, config.pool_padding) if config.use_max_pool else None
    convolution = window(config.kernel_size, config.stride, config.padding)
    return ConvTokenizer(channels, convolution, bias=bias, activation=config.conv_act, pool=pool)


class CctEmbeddings(CctBaseEmbeddings):
    """Embeddings of images: the class token, then the tokens of a convolutional tokenizer, with positions."""

    def __init__(self, config: CctConfig):
        between = [config.conv_hidden_size] * (config.num_conv_layers - 1)
        channels = [config.num_channels, *between, config.hidden_size]
        super().__init__(config, make_tokenizer(config, channels, Window.square, config.conv_bias))
        self.num_channels = config.num_channels
        self.patch_size = config.patch_size
        self.position_embedding = self.make_position_embedding(config)

    def make_position_embedding(self, config: CctConfig) -> nn.Module | None:
        grid = self.grid(*pair(config.image_size))
        if config.position_embedding_type == "none":
            return None
        if config.position_embedding_type == "sine":
            return SinePositionEmbedding(config.num_prefix_tokens + math.prod(grid), config.hidden_size)
        return PositionEmbedding(grid, config.hidden_size, config.num_prefix_tokens, interpolation="bilinear")

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in tokens for an image size in pixels; ValueError where the size is not legal."""
        patch = self.patch_size
        if height % patch or width % patch:
            raise ValueError(
                f"an image of {height}x{width} pixels cannot be cut into patches of {patch}x{patch}: height and width "
                f"must be positive multiples of {patch}; resize or pad it, as the image processor does"
            )
        return self.tokenizer.grid(height, width)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, prefix + tokens, hidden_size)."""
        check_pixel_values(pixel_values, self.num_channels)
        grid = self.grid(*pixel_values.shape[-2:])
        tokens = self.tokenizer(pixel_values)
        tokens = self.add_prefix(tokens.flatten(2).transpose(1, 2))
        if isinstance(self.position_embedding, SinePositionEmbedding):
            tokens = tokens + self.position_embedding(tokens.shape[1])
        elif self.position_embedding is not None:
            tokens = tokens + self.position_embedding(grid)
        return self.dropout(tokens)


class CctLayer(GradientCheckpointingLayer):
    """Transformer layer: h = norm(x + attention(norm(x))), then h + mlp(h).

    Unlike in a pre-norm layer, the second residual connection starts from the normalised h.
    """

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
        """Map (batch, tokens, hidden_size) to the same shape."""
        attended, _ = self.attention(self.attention_norm(hidden_states), attention_mask, **kwargs)
        hidden_states = self.mlp_norm(hidden_states + self.drop_path(attended))
        return hidden_states + self.drop_path(self.mlp(hidden_states))


class CctPreTrainedModel(VitsPreTrainedModel):
    config_class = CctConfig
    _no_split_modules = ["CctLayer"]
    _can_record_outputs = VitsPreTrainedModel._can_record_outputs | {"hidden_states": OutputRecorder(CctLayer)}

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as the original: truncated normal, of deviation 0.2 in tables of positions and 0.02 in linear
        layers; convolutions Kaiming normal, with PyTorch's default for their biases."""
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


class CctEncoder(PreTrainedMixin):
    """Embeddings, layers, final norm and pooler; mixed into the pretrained class of images or of text.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    embeddings_class: Callable[..., CctBaseEmbeddings]

    def __init__(self, config: CctBaseConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = self.embeddings_class(config)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.layers = nn.ModuleList(CctLayer(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = None
        if add_pooling_layer:
            is_sequence = config.pooling == "sequence"
            self.pooler = SequencePooling(config.hidden_size) if is_sequence else TokenPooling()
        self.post_init()

    def encode(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        **kwargs,
    ) -> EncoderOutput:
        """Run the layers on embedded tokens, then normalise and pool them.

        Args:
            hidden_states: (batch, prefix + tokens, hidden_size).
            attention_mask: for attention, see `layers.attention.attend`.
            mask: boolean (batch, prefix + tokens), False for tokens that pooling leaves out; None for none.
        """
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        hidden_states = self.norm(hidden_states)
        pooled = self.pooler(hidden_states, mask) if self.pooler is not None else None
        return EncoderOutput(last_hidden_state=hidden_states, pooler_output=pooled)


class CctModel(CctEncoder, CctPreTrainedModel):
    """Compact Transformer encoder of images."""

    _input_embed_layer = "tokenizer"
    embeddings_class = CctEmbeddings

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
        """
        return self.encode(self.embeddings(pixel_values), **kwargs)


class CctForImageClassification(ForImageClassification, CctPreTrainedModel):
    """Compact Transformer with a linear classifier on its pooled output."""

    model_class = CctModel


class CctBackbone(IsotropicBackbone, CctPreTrainedModel):
    """Compact Transformer that returns feature maps, for detection and segmentation heads."""

    model_class = CctModel


__all__ = ["CctBackbone", "CctForImageClassification", "CctModel", "CctPreTrainedModel"]
