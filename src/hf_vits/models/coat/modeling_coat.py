"""CoaT: factorised attention with convolutional relative positions, in serial layers per scale and parallel layers.

Xu et al., "Co-Scale Conv-Attentional Image Transformers", arXiv 2104.06399; mlpc-ucsd/CoaT (src/models/coat.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...layers.attention import SplitHeads, fused_projection
from ...layers.convolution import ConvPositionEmbedding, to_map, to_tokens
from ...layers.mlp import MLP
from ...layers.patch import ConvEmbedding, check_pixel_values
from ...layers.stages import Stage
from ...layers.transformer import PreNormLayer
from ...modeling import EncoderOutput, ForImageClassification, HierarchicalBackbone, VitsHierarchicalPreTrainedModel
from .configuration_coat import CoatConfig


@dataclass
class CoatModelOutput(EncoderOutput):
    """Output of `CoatModel`.

    feature_maps: feature map of every scale, (batch, channels, height, width), without class token and norm, as
        detectors use them; after the last parallel layer, if there are any.
    """

    feature_maps: tuple[torch.Tensor, ...] | None = None


class CoatPositionEmbedding(ConvPositionEmbedding):
    """Convolutional position embedding of patch tokens; the class token is unchanged."""

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Map (batch, 1 + rows * columns, hidden_size) to the same shape."""
        patches = super().forward(to_map(hidden_states[:, 1:], grid))
        return torch.cat([hidden_states[:, :1], to_tokens(patches)], dim=1)


class CoatRelativePosition(nn.Module):
    """Convolutional relative positions: depth-wise convolutions of the values, with one window size per head group.

    Section 3.3 of the paper.
    """

    def __init__(self, config: CoatConfig, hidden_size: int):
        super().__init__()
        head_dim = hidden_size // config.num_attention_heads
        self.widths = [heads * head_dim for heads in config.relative_window_heads]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, window, padding=window // 2, groups=width)
            for width, window in zip(self.widths, config.relative_window_sizes, strict=True)
        )

    def forward(self, value: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Map (batch, heads, rows * columns, head_dim) to (batch, rows * columns, heads, head_dim)."""
        feature_map = to_map(value.transpose(1, 2).flatten(2), grid)
        parts = feature_map.split(self.widths, dim=1)
        weighted = torch.cat([conv(part) for conv, part in zip(self.convolutions, parts, strict=True)], dim=1)
        return to_tokens(weighted).unflatten(2, (value.shape[1], -1))


class CoatPositions(nn.Module):
    """Position embedding and relative positions of a scale, shared by all of its layers.

    Layers get the bound calls of both modules, since accelerate moves modules among the arguments to the device, which
    fails where their weights are offloaded.
    """

    def __init__(self, config: CoatConfig, hidden_size: int):
        super().__init__()
        self.embedding = CoatPositionEmbedding(hidden_size)
        self.relative = CoatRelativePosition(config, hidden_size)

    def calls(self) -> tuple[Callable, Callable]:
        """Return the bound calls of position embedding and relative positions."""
        return self.embedding.__call__, self.relative.__call__


class CoatAttention(nn.Module):
    """Factorised attention: query @ (softmax over tokens of the keys)^T @ value.

    Time and memory are linear in the number of tokens; there are no attention probabilities. Relative positions add a
    term to every token except the class token.
    """

    def __init__(self, config: CoatConfig, hidden_size: int):
        super().__init__()
        self.scaling = (hidden_size // config.num_attention_heads) ** -0.5
        self.qkv = fused_projection(hidden_size, hidden_size, config.qkv_bias)
        self.split = SplitHeads(config.num_attention_heads)
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int], relative_position: Callable) -> torch.Tensor:
        """Map (batch, 1 + rows * columns, hidden_size) to the same shape.

        Args:
            relative_position: the bound call of the scale's `CoatRelativePosition`.
        """
        query, key, value = self.split(self.qkv(hidden_states))
        gathered = torch.matmul(key.softmax(dim=2).transpose(2, 3), value)
        attended = torch.matmul(query, gathered * self.scaling).transpose(1, 2)
        patch_queries = query.transpose(1, 2)[:, 1:]
        patches = torch.addcmul(attended[:, 1:], patch_queries, relative_position(value[:, :, 1:], grid))
        attended = torch.cat([attended[:, :1], patches], dim=1)
        return self.dropout(self.projection(attended.flatten(2)))


class CoatSerialLayer(PreNormLayer):
    """Position embedding, then a pre-norm layer of factorised attention."""

    def __init__(self, config: CoatConfig, stage: int):
        hidden_size = config.hidden_sizes[stage]
        super().__init__(config, hidden_size, config.mlp_ratios[stage], config.drop_path_rate)
        self.attention = CoatAttention(config, hidden_size)

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], embed: Callable, relative_position: Callable
    ) -> torch.Tensor:
        """Map (batch, 1 + rows * columns, hidden_size) to the same shape, given `CoatPositions.calls`."""
        hidden_states = embed(hidden_states, grid)
        return self.add(hidden_states, self.attention(self.attention_norm(hidden_states), grid, relative_position))


class CoatParallelLayer(GradientCheckpointingLayer):
    """Layer on all scales but the first: attention in each, sum over the resized scales, and one shared MLP."""

    def __init__(self, config: CoatConfig):
        super().__init__()
        scales, hidden_size, eps = len(config.depths) - 1, config.hidden_size, config.layer_norm_eps
        self.attention_norms = nn.ModuleList(nn.LayerNorm(hidden_size, eps=eps) for _ in range(scales))
        self.attentions = nn.ModuleList(CoatAttention(config, hidden_size) for _ in range(scales))
        self.mlp_norms = nn.ModuleList(nn.LayerNorm(hidden_size, eps=eps) for _ in range(scales))
        intermediate_size = int(hidden_size * config.mlp_ratios[-1])
        self.mlp = MLP(hidden_size, intermediate_size, config.hidden_act, config.hidden_dropout_prob)
        self.drop_path = StochasticDepth(config.drop_path_rate, mode="row")

    # Scales are separate arguments, since gradient checkpointing does not find tensors inside lists.
    def forward(
        self, *scales: torch.Tensor, grids: list[tuple[int, int]], positions: list[tuple[Callable, Callable]]
    ) -> tuple[torch.Tensor, ...]:
        """Map (batch, 1 + rows * columns, hidden_size) of each scale to the same shapes.

        Args:
            grids: (rows, columns) of each scale.
            positions: `CoatPositions.calls` of each scale.
        """
        embeds, relative_positions = zip(*positions, strict=True)
        scales = tuple(embed(tokens, grid) for embed, tokens, grid in zip(embeds, scales, grids, strict=True))
        parts = zip(self.attentions, self.attention_norms, scales, grids, relative_positions, strict=True)
        attended = exchange(
            [attention(norm(tokens), grid, relative) for attention, norm, tokens, grid, relative in parts], grids
        )
        scales = tuple(tokens + self.drop_path(branch) for tokens, branch in zip(scales, attended, strict=True))
        return tuple(
            tokens + self.drop_path(self.mlp(norm(tokens)))
            for norm, tokens in zip(self.mlp_norms, scales, strict=True)
        )


def exchange(scales: list[torch.Tensor], grids: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Add to each scale's tokens the tokens of all other scales, resized bilinearly; class tokens are summed."""
    first, *rest = [tokens[:, :1] for tokens in scales]
    class_token = sum(rest, first)
    maps = [to_map(tokens[:, 1:], grid) for tokens, grid in zip(scales, grids, strict=True)]
    exchanged = []
    for index, grid in enumerate(grids):
        others = maps[:index] + maps[index + 1 :]
        resized = [nn.functional.interpolate(other, size=grid, mode="bilinear") for other in others]
        exchanged.append(torch.cat([class_token, to_tokens(sum(resized, maps[index]))], dim=1))
    return exchanged


class CoatStage(Stage):
    """Stage: patch merging, except in the first stage, a class token and serial layers."""

    def __init__(self, config: CoatConfig, stage: int):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        self.embeddings = ConvEmbedding(config.hidden_sizes[stage - 1], hidden_size, 2) if stage else None
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.positions = CoatPositions(config, hidden_size)
        self.layers = nn.ModuleList(CoatSerialLayer(config, stage) for _ in range(config.depths[stage]))

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (batch, channels, height, width) to the stage's feature map and its tokens (batch, tokens, channels)."""
        if self.embeddings is not None:
            hidden_states = self.embeddings(hidden_states)
        grid = tuple(hidden_states.shape[-2:])
        tokens = torch.cat([self.class_token.expand(hidden_states.shape[0], -1, -1), to_tokens(hidden_states)], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, grid, *self.positions.calls())
        return to_map(tokens[:, 1:], grid), tokens


class CoatPooler(nn.Module):
    """Normalised class token of the last scale; with parallel layers, a learned mix over their scales.

    As in the original, there is a norm for every scale, also for scales whose class token is not used.
    """

    def __init__(self, config: CoatConfig):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(size, eps=config.layer_norm_eps) for size in config.hidden_sizes)
        self.mixing = nn.Conv1d(len(config.depths) - 1, 1, kernel_size=1) if config.num_parallel_layers else None

    def forward(self, scales: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Map the tokens of every scale to those of the last scale, normalised, and the pooled output."""
        last = self.norms[-1](scales[-1])
        if self.mixing is None:
            return last, last[:, 0]
        others = zip(self.norms[1:-1], scales[1:-1], strict=True)
        class_tokens = [*(norm(tokens[:, :1]) for norm, tokens in others), last[:, :1]]
        return last, self.mixing(torch.cat(class_tokens, dim=1))[:, 0]


class CoatPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = CoatConfig
    # Layers use modules of their stage, parallel layers those of several stages: an encoder stays on one device, and
    # FSDP shards it as a whole.
    _no_split_modules = ["CoatModel"]
    # Factorised attention has no attention implementations to choose from.
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_flex_attn = False
    _supports_attention_backend = False
    _can_record_outputs = {"hidden_states": OutputRecorder(Stage)}


class CoatModel(CoatPreTrainedModel):
    """CoaT encoder. `last_hidden_state` has the tokens of the last scale; `pooler_output` is made of class tokens.

    Args:
        add_pooling_layer: whether the final norms exist and `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: CoatConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.smallest_side = config.patch_size * 2 ** (len(config.depths) - 1)
        self.embeddings = ConvEmbedding(config.num_channels, config.hidden_sizes[0], config.patch_size)
        self.stages = nn.ModuleList(CoatStage(config, stage) for stage in range(len(config.depths)))
        self.parallel_layers = nn.ModuleList(CoatParallelLayer(config) for _ in range(config.num_parallel_layers))
        self.pooler = CoatPooler(config) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> CoatModelOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor. Where patches of a
                stage do not fill the feature map, the rest below and to the right is left out.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        self.check_size(*pixel_values.shape[-2:])
        hidden_states = self.embeddings(pixel_values)
        maps, scales = [], []
        for stage in self.stages:
            hidden_states, tokens = stage(hidden_states)
            maps.append(hidden_states)
            scales.append(tokens)
        if self.parallel_layers:
            scales[1:] = self.run_parallel_layers(scales[1:], [tuple(map_.shape[-2:]) for map_ in maps[1:]])
            maps = [to_map(tokens[:, 1:], map_.shape[-2:]) for tokens, map_ in zip(scales, maps, strict=True)]
        last, pooled = (scales[-1], None) if self.pooler is None else self.pooler(scales)
        return CoatModelOutput(last_hidden_state=last, pooler_output=pooled, feature_maps=tuple(maps))

    def run_parallel_layers(self, scales: list[torch.Tensor], grids: list[tuple[int, int]]) -> list[torch.Tensor]:
        stages: Any = self.stages[1:]
        positions = [stage.positions.calls() for stage in stages]
        for layer in self.parallel_layers:
            scales = layer(*scales, grids=grids, positions=positions)
        return scales

    def check_size(self, height: int, width: int) -> None:
        if min(height, width) < self.smallest_side:
            raise ValueError(
                f"an image of {height}x{width} pixels leaves the last scale without tokens: height and width must be "
                f"at least {self.smallest_side}"
            )


class CoatForImageClassification(ForImageClassification, CoatPreTrainedModel):
    """CoaT with a linear classifier on its pooled output."""

    model_class = CoatModel


class CoatBackbone(HierarchicalBackbone, CoatPreTrainedModel):
    """CoaT that returns the feature map of each scale, for detection and segmentation heads."""

    model_class = CoatModel

    def stage_maps(self, outputs: CoatModelOutput) -> tuple[torch.Tensor, ...]:
        return (outputs.hidden_states[0], *outputs.feature_maps)


__all__ = ["CoatBackbone", "CoatForImageClassification", "CoatModel", "CoatPreTrainedModel"]
