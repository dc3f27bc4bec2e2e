"""T2T-ViT: a ViT whose tokens come from soft splits with small transformer layers between them.

Yuan et al., "Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet", arXiv 2101.11986;
yitu-opensource/T2T-ViT (models/t2t_vit.py, token_performer.py, token_transformer.py), ofsoundof/LocalViT
(models/t2t_vit.py, models/localvit_t2t.py).
"""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, maybe_autocast, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...configuration import pair
from ...layers.attention import Attention, SelfAttention, attend
from ...layers.convolution import to_map
from ...layers.frozen import FrozenParameters
from ...layers.locality import LocalityFeedForward, LocalityTransformerLayer, MLPFeedForward
from ...layers.patch import check_pixel_values
from ...layers.position import PositionEmbedding, sine_cosine_positions
from ...layers.transformer import TransformerLayer, drop_path_rates
from ...modeling import EncoderOutput, ForImageClassification, IsotropicBackbone, VitsPreTrainedModel
from .configuration_t2t import T2TConfig


class SoftSplit(nn.Unfold):
    """Soft split: each overlapping patch of a feature map, flattened, is a token."""

    kernel_size: int
    stride: int
    padding: int

    def __init__(self, kernel_size: int, stride: int, padding: int):
        super().__init__(kernel_size, stride=stride, padding=padding)

    def grid(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) in tokens of the split of a feature map of this size."""
        rows, columns = ((size + 2 * self.padding - self.kernel_size) // self.stride + 1 for size in grid)
        return rows, columns

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to (batch, tokens, channels * pixels of a patch)."""
        return super().forward(feature_map).transpose(1, 2)


class RandomFeatures(FrozenParameters):
    """Positive random features exp(w . x - |x|^2 / 2) of random rows w; their products are exp(x . y) in expectation.

    Choromanski et al., "Rethinking Attention with Performers", arXiv 2009.14794, lemma 1.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels // 2, channels))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, channels) to (batch, tokens, features), in single precision."""
        tokens = tokens.float()
        exponents = nn.functional.linear(tokens, self.weight.float()) - tokens.square().sum(-1, keepdim=True) / 2
        return exponents.exp() * len(self.weight) ** -0.5


class T2TPerformer(nn.Module):
    """Attention by random features, of linear cost; the residual connection adds the values, not the input."""

    def __init__(self, config: T2TConfig, in_channels: int):
        super().__init__()
        self.key_query_value = nn.Linear(in_channels, 3 * config.token_size)
        self.features = RandomFeatures(config.token_size)
        self.projection = nn.Linear(config.token_size, config.token_size)
        self.dropout = nn.Dropout(config.token_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, tokens, in_channels) to (batch, tokens, token_size)."""
        key, query, value = self.key_query_value(hidden_states).chunk(3, dim=-1)
        # The features span more orders of magnitude than half precision can represent.
        with maybe_autocast(device_type=hidden_states.device.type, enabled=False):
            key, query = self.features(key), self.features(query)
            gathered = torch.matmul(key.transpose(1, 2), value.float())
            norm = torch.matmul(query, key.sum(dim=1)[..., None]) + 1e-8
            attended = torch.matmul(query, gathered) / norm
        return value + self.dropout(self.projection(attended.to(value.dtype)))


class T2TTokenAttention(Attention):
    """Softmax attention with one head, scaled by 1/sqrt(in_channels); the residual connection adds the values."""

    def __init__(self, config: T2TConfig, in_channels: int):
        super().__init__(config, in_channels**-0.5, config.attention_probs_dropout_prob)
        self.qkv = nn.Linear(in_channels, 3 * config.token_size, bias=config.qkv_bias)
        self.projection = nn.Linear(config.token_size, config.token_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, tokens, in_channels) to (batch, tokens, token_size)."""
        query, key, value = self.qkv(hidden_states)[:, None].chunk(3, dim=-1)
        attended, _ = attend(self, query, key, value, **kwargs)
        return value[:, 0] + self.dropout(self.projection(attended.flatten(2)))


class T2TTokenLayer(nn.Module):
    """Transformer layer of few channels between two soft splits."""

    def __init__(self, config: T2TConfig, in_channels: int):
        super().__init__()
        is_performer, size = config.token_layer == "performer", config.token_size
        self.attention_norm = nn.LayerNorm(in_channels, eps=config.layer_norm_eps)
        self.attention = (T2TPerformer if is_performer else T2TTokenAttention)(config, in_channels)
        self.unused_norm = None
        if config.feed_forward == "locality":
            self.feed_forward = LocalityFeedForward(config, size, size, squeeze_size=None)
            self.unused_norm = UnusedNorm(size) if is_performer else None
        else:
            dropout = nn.Dropout(config.token_dropout_prob if is_performer else 0.0)
            self.feed_forward = MLPFeedForward(config, size, size, dropout)

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int], **kwargs) -> torch.Tensor:
        """Map (batch, rows * columns, in_channels) to (batch, rows * columns, token_size)."""
        return self.feed_forward(self.attention(self.attention_norm(hidden_states), **kwargs), grid)


class UnusedNorm(FrozenParameters):
    """Parameters of a norm that LocalViT's code builds and saves, but never uses."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))


class T2TPositionEmbedding(FrozenParameters, PositionEmbedding):
    """Fixed sinusoid over class token and patches, in row-major order; saved and resized, but not trained."""

    def values(self) -> torch.Tensor:
        """Return the table's values, (1, 1 + patches, hidden_size)."""
        return sine_cosine_positions(*self.table.shape[1:], precision=torch.float64)


class T2TEmbeddings(nn.Module):
    """Three soft splits with a layer after each of the first two, then projection, class token and positions.

    Args:
        first_split: kernel size, stride and padding of the first soft split, in pixels.
    """

    def __init__(self, config: T2TConfig, first_split: tuple[int, int, int] = (7, 4, 2)):
        super().__init__()
        self.num_channels = config.num_channels
        self.splits = nn.ModuleList([SoftSplit(*first_split), SoftSplit(3, 2, 1), SoftSplit(3, 2, 1)])
        first_size = first_split[0] ** 2 * config.num_channels
        self.layers = nn.ModuleList(
            T2TTokenLayer(config, in_channels) for in_channels in (first_size, 9 * config.token_size)
        )
        self.projection = nn.Linear(9 * config.token_size, config.hidden_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        grid = self.grid(*pair(config.image_size))
        self.position_embedding = T2TPositionEmbedding(grid, config.hidden_size, num_prefix_tokens=1)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in tokens of an image of this size in pixels."""
        return self.grids(height, width)[-1]

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return (height, width) in tokens of every split; ValueError for an image that is too small."""
        splits: Any = self.splits
        size, padding = splits[0].kernel_size, splits[0].padding
        if min(height, width) < size - 2 * padding:
            raise ValueError(
                f"an image of {height}x{width} pixels is too small for the first split's patches of {size}x{size} "
                f"pixels with padding {padding}: both sides must be at least {size - 2 * padding}"
            )
        grids = [(height, width)]
        for split in splits:
            grids.append(split.grid(grids[-1]))
        return grids[1:]

    def forward(self, pixel_values: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, 1 + tokens, hidden_size)."""
        check_pixel_values(pixel_values, self.num_channels)
        grids = self.grids(*pixel_values.shape[-2:])
        *splits, last_split = self.splits
        feature_map = pixel_values.to(self.class_token.dtype)
        for split, layer, grid in zip(splits, self.layers, grids[:-1], strict=True):
            feature_map = to_map(layer(split(feature_map), grid, **kwargs), grid)
        tokens = self.projection(last_split(feature_map))
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.dropout(tokens + self.position_embedding(grids[-1]))


class T2TPreTrainedModel(VitsPreTrainedModel):
    config_class = T2TConfig
    _no_split_modules = ["T2TTokenLayer", "TransformerLayer", "LocalityTransformerLayer"]
    _can_record_outputs = VitsPreTrainedModel._can_record_outputs | {
        "hidden_states": OutputRecorder(TransformerLayer),
        "attentions": OutputRecorder(SelfAttention, index=1),
    }

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, T2TPositionEmbedding):
            init.copy_(module.table, module.values())
        elif isinstance(module, RandomFeatures):
            init.orthogonal_(module.weight, gain=len(module.weight) ** 0.5)
        elif isinstance(module, UnusedNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class T2TModel(T2TPreTrainedModel):
    """T2T-ViT encoder. `pooler_output` is the class token.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: T2TConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = T2TEmbeddings(config)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.is_local = config.feed_forward == "locality"
        layer_class = LocalityTransformerLayer if self.is_local else TransformerLayer
        self.layers = nn.ModuleList(layer_class(config, rate) for rate in rates)
        if config.attention_scale is not None:
            layers: Any = self.layers
            for layer in layers:
                layer.attention.scaling = config.attention_scale
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.add_pooling_layer = add_pooling_layer
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
        """
        hidden_states = self.embeddings(pixel_values, **kwargs)
        local = {"grid": self.embeddings.grid(*pixel_values.shape[-2:])} if self.is_local else {}
        for layer in self.layers:
            hidden_states = layer(hidden_states, **local, **kwargs)
        hidden_states = self.norm(hidden_states)
        pooled = hidden_states[:, 0] if self.add_pooling_layer else None
        return EncoderOutput(last_hidden_state=hidden_states, pooler_output=pooled)


class T2TForImageClassification(ForImageClassification, T2TPreTrainedModel):
    """T2T-ViT with a linear classifier on its class token."""

    model_class = T2TModel


class T2TBackbone(IsotropicBackbone, T2TPreTrainedModel):
    """T2T-ViT that returns feature maps, for detection and segmentation heads."""

    model_class = T2TModel


__all__ = ["T2TBackbone", "T2TForImageClassification", "T2TModel", "T2TPreTrainedModel"]
