"""MViT: hierarchical transformer with pooling attention, for images and for clips.

Fan et al., "Multiscale Vision Transformers", arXiv 2104.11227; Li et al., "MViTv2: Improved Multiscale Vision
Transformers for Classification and Detection", arXiv 2112.01526; facebookresearch/mvit (mvit/models/mvit_model.py),
facebookresearch/SlowFast (slowfast/models/video_model_builder.py), facebookresearch/detectron2
(detectron2/modeling/backbone/mvit.py).
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...configuration import pair
from ...layers.convolution import LayerNorm2d, to_map, to_tokens
from ...layers.mlp import MLP
from ...layers.patch import check_pixel_values
from ...layers.position import PositionEmbedding, SeparablePositionEmbedding
from ...layers.relative_position import DecomposedRelativePositions
from ...layers.stages import Stage
from ...layers.transformer import drop_path_rates_of_stages
from ...modeling import EncoderOutput, ForImageClassification, HierarchicalBackbone, VitsHierarchicalPreTrainedModel
from .attention_mvit import Grid, Pooling, PoolingAttention, max_pool_map, pooled_grid
from .configuration_mvit import MvitConfig
from .initialization_mvit import initialize_from


class LayerPlan(NamedTuple):
    """Sizes of a layer.

    Attributes:
        input_size, hidden_size, output_size: channels of the input, of the attention and of the output.
        num_heads: heads of the attention.
        query_stride, key_value_stride: strides of the pooling, along each axis.
        windows: sides of the windows of queries and of keys; None for global attention.
        grid: input grid of the layer for an input of the size of the position tables.
        floored_grid: the same with every division rounded down, from which the originals compute table sizes.
    """

    input_size: int
    hidden_size: int
    output_size: int
    num_heads: int
    query_stride: Grid
    key_value_stride: Grid
    windows: tuple[int, int] | None
    grid: Grid
    floored_grid: Grid


def input_sizes(config: MvitConfig) -> Grid:
    """Return the input size of the position tables: (height, width) or (frames, height, width)."""
    size = pair(config.image_size)
    return size if config.num_frames is None else (config.num_frames, *size)


def divided(grid: Grid, stride: Grid) -> Grid:
    """Divide every size of a grid by its stride, rounded down, to at least 1."""
    return tuple(max(size // step, 1) for size, step in zip(grid, stride, strict=True))


def spatial_stride(stride: int, axes: int) -> Grid:
    """Return strides that are the same along height and width, and 1 along time."""
    return (1,) * (axes - 2) + (stride, stride)


def plan_layers(config: MvitConfig) -> list[list[LayerPlan]]:
    """Compute the sizes of the layers of every stage."""
    sizes, patch_stride, axes = input_sizes(config), tuple(config.patch_stride), len(config.patch_stride)
    grid, floored_grid = pooled_grid(sizes, patch_stride), divided(sizes, patch_stride)
    plans, input_size, last_stage = [], config.hidden_sizes[0], len(config.depths) - 1
    for stage, depth in enumerate(config.depths):
        plans.append([])
        for index in range(depth):
            begins, ends = stage > 0 and index == 0, index == depth - 1
            query_stride, key_value_stride = 2 if begins else 1, max(config.key_value_stride >> stage, 1)
            windows = None
            if config.window_size is not None:
                side = config.window_size >> (stage - begins)
                windows = None if stage > 0 and ends else (side // query_stride, side // key_value_stride)
                if ends and 0 < stage < last_stage:
                    key_value_stride *= 2
            hidden_size = config.hidden_sizes[stage]
            plan = LayerPlan(
                input_size=input_size,
                hidden_size=hidden_size,
                output_size=config.output_sizes[stage] if ends else hidden_size,
                num_heads=config.num_attention_heads[stage],
                query_stride=spatial_stride(query_stride, axes),
                key_value_stride=spatial_stride(key_value_stride, axes),
                windows=windows,
                grid=grid,
                floored_grid=floored_grid,
            )
            plans[-1].append(plan)
            input_size = plan.output_size
            grid, floored_grid = pooled_grid(grid, plan.query_stride), divided(floored_grid, plan.query_stride)
    return plans


def make_pooling(config: MvitConfig, stride: Grid, pool_always: bool) -> Pooling | None:
    """Return the pooling with this stride; None for no pooling."""
    is_strided = max(stride) > 1
    if not (pool_always or is_strided):
        return None
    if config.pooling_kernel_size is None:
        kernel_size = tuple(step + 1 if step > 1 else 1 for step in stride)
    else:
        kernel_size = tuple(config.pooling_kernel_size)
    return Pooling(kernel_size, stride) if is_strided or max(kernel_size) > 1 else None


def make_positions(config: MvitConfig, plan: LayerPlan) -> DecomposedRelativePositions | None:
    """Make a layer's relative positions; None for absolute positions."""
    if config.position_embedding_type != "relative":
        return None
    strides = plan.query_stride, plan.key_value_stride
    queries, keys = (divided(plan.floored_grid, stride) for stride in strides)
    table_sizes = tuple(2 * max(sizes) - 1 for sizes in zip(queries, keys, strict=True))
    if plan.windows is None:
        query_grid, key_grid = (pooled_grid(plan.grid, stride) for stride in strides)
    else:
        query_grid, key_grid = ((side, side) for side in plan.windows)
    return DecomposedRelativePositions(query_grid, key_grid, table_sizes, plan.hidden_size // plan.num_heads)


class MvitEmbeddings(nn.Module):
    """Embedding of overlapping patches of an image or clip, with optional class token and absolute positions."""

    def __init__(self, config: MvitConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.takes_clips = config.num_frames is not None
        hidden_size, num_prefix_tokens = config.hidden_sizes[0], config.num_prefix_tokens
        kernel_size, stride = tuple(config.patch_size), tuple(config.patch_stride)
        convolution = nn.Conv3d if self.takes_clips else nn.Conv2d
        padding = tuple(size // 2 for size in kernel_size)
        self.projection = convolution(config.num_channels, hidden_size, kernel_size, stride, padding)
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden_size)) if config.use_class_token else None
        self.position_embedding = None
        if config.position_embedding_type == "absolute":
            make = SeparablePositionEmbedding if self.takes_clips else PositionEmbedding
            self.position_embedding = make(divided(input_sizes(config), stride), hidden_size, num_prefix_tokens)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map pixels, see `MvitModel.forward`, to a feature map (batch, channels, *grid) and prefix tokens."""
        check_pixel_values(pixel_values, self.num_channels, clips=self.takes_clips)
        pixel_values = pixel_values.to(self.projection.weight.dtype)
        feature_map = self.projection(pixel_values.transpose(1, 2) if self.takes_clips else pixel_values)
        grid, tokens = tuple(feature_map.shape[2:]), to_tokens(feature_map)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding(grid)
        return split_tokens(tokens, grid)


def split_tokens(tokens: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """Split (batch, prefix + prod(grid), channels) into a feature map (batch, channels, *grid) and prefix tokens."""
    num_prefix = tokens.shape[1] - math.prod(grid)
    return to_map(tokens[:, num_prefix:], grid), tokens[:, :num_prefix]


class MvitLayer(GradientCheckpointingLayer):
    """Pre-norm layer with pooling attention.

    The attention's residual connection is max-pooled where queries are. Where the number of channels changes, the
    residual connection is a linear layer on the normalised tokens.
    """

    def __init__(self, config: MvitConfig, plan: LayerPlan, drop_path_rate: float):
        super().__init__()
        self.query_stride = plan.query_stride
        self.attention_norm = nn.LayerNorm(plan.input_size, eps=config.layer_norm_eps)
        self.attention_shortcut = widening(plan.input_size, plan.hidden_size)
        self.attention = PoolingAttention(
            config,
            plan.input_size,
            plan.hidden_size,
            plan.num_heads,
            make_pooling(config, plan.query_stride, config.pool_all_queries),
            make_pooling(config, plan.key_value_stride, config.pool_all_keys),
            config.pooling_norm_eps,
            positions=make_positions(config, plan),
            residual=config.residual_pooling,
            pool_first=config.pool_first,
            windows=plan.windows,
        )
        self.mlp_norm = nn.LayerNorm(plan.hidden_size, eps=config.layer_norm_eps)
        self.mlp_shortcut = widening(plan.hidden_size, plan.output_size)
        intermediate_size = int(plan.hidden_size * config.mlp_ratio)
        self.mlp = MLP(plan.hidden_size, intermediate_size, config.hidden_act, output_size=plan.output_size)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, hidden_states: torch.Tensor, grid: Grid, **kwargs) -> torch.Tensor:
        """Map (batch, prefix + prod(grid), input_size) to (batch, prefix + pooled grid, output_size)."""
        normed = self.attention_norm(hidden_states)
        attended, _ = self.attention(normed, grid, **kwargs)
        if self.attention_shortcut is not None:
            hidden_states = self.attention_shortcut(normed)
        if max(self.query_stride) > 1:
            hidden_states = max_pool_map(hidden_states, grid)
        hidden_states = hidden_states + self.drop_path(attended)
        normed = self.mlp_norm(hidden_states)
        if self.mlp_shortcut is not None:
            hidden_states = self.mlp_shortcut(normed)
        return hidden_states + self.drop_path(self.mlp(normed))


def widening(input_size: int, output_size: int) -> nn.Linear | None:
    """Make the linear layer of a residual connection; None for equal numbers of channels."""
    return None if input_size == output_size else nn.Linear(input_size, output_size)


class MvitStage(Stage):
    """Stage of layers, the first of which downsamples the previous stage's feature map."""

    def __init__(self, config: MvitConfig, plans: list[LayerPlan], rates: list[float]):
        super().__init__()
        self.layers = nn.ModuleList(MvitLayer(config, *sizes) for sizes in zip(plans, rates, strict=True))

    def forward(
        self, hidden_states: torch.Tensor, prefix: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map a feature map (batch, channels, *grid) and prefix tokens (batch, prefix, channels) to the stage's."""
        grid, tokens = tuple(hidden_states.shape[2:]), to_tokens(hidden_states)
        if prefix.shape[1]:
            tokens = torch.cat([prefix, tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, grid, **kwargs)
            grid = pooled_grid(grid, layer.query_stride)
        return split_tokens(tokens, grid)


class MvitPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = MvitConfig
    _no_split_modules = ["MvitLayer"]

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, SeparablePositionEmbedding):
            init.trunc_normal_(module.temporal, std=0.02)
            if module.prefix is not None:
                init.trunc_normal_(module.prefix, std=0.02)
        elif isinstance(module, DecomposedRelativePositions):
            for table in module.tables:
                if self.config.initializer == "detectron2":
                    init.zeros_(table)
                else:
                    init.trunc_normal_(table, std=0.02)
        elif self.config.initializer == "slowfast":
            self.init_as_slowfast(module)

    def init_as_slowfast(self, module: nn.Module) -> None:
        """Initialise what SlowFast initialises differently."""
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            init.trunc_normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            init.constant_(module.bias, 0.02)

    initialize_from = initialize_from


class MvitModel(MvitPreTrainedModel):
    """MViT encoder. `pooler_output` is the class token, or the mean of the tokens, see `config.use_mean_pooling`.

    Args:
        add_pooling_layer: whether the final norm exists and `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: MvitConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = MvitEmbeddings(config)
        rates = drop_path_rates_of_stages(config.drop_path_rate, config.depths)
        stages = zip(plan_layers(config), rates, strict=True)
        self.stages = nn.ModuleList(MvitStage(config, plans, own) for plans, own in stages)
        self.norm = nn.LayerNorm(config.output_sizes[-1], eps=config.layer_norm_eps) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images, or clips if `config.num_frames` is not None.

        Args:
            pixel_values: (batch, num_channels, height, width) or (batch, frames, num_channels, height, width) of any
                size, normalised by the processor.
        """
        hidden_states, prefix = self.embeddings(pixel_values)
        for stage in self.stages:
            hidden_states, prefix = stage(hidden_states, prefix, **kwargs)
        tokens = to_tokens(hidden_states)
        outputs = self.normed_and_pooled(torch.cat([prefix, tokens], dim=1))
        if self.config.use_mean_pooling and self.norm is not None:
            outputs.pooler_output = self.norm(tokens.mean(dim=1))
        return outputs


class MvitForImageClassification(ForImageClassification, MvitPreTrainedModel):
    """MViT with dropout and a linear classifier on its pooled output."""

    model_class = MvitModel

    def make_parts(self, config: MvitConfig) -> None:
        super().make_parts(config)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)

    def encode(self, pixel_values: torch.Tensor | None, **kwargs) -> EncoderOutput:
        outputs = super().encode(pixel_values, **kwargs)
        outputs.pooler_output = self.dropout(outputs.pooler_output)
        return outputs


class MvitForVideoClassification(MvitForImageClassification):
    """MViT classifier of clips: `pixel_values` are (batch, frames, num_channels, height, width)."""

    input_modalities = ("video",)


class MvitBackbone(HierarchicalBackbone, MvitPreTrainedModel):
    """MViT that returns the feature map of each stage, for detection and segmentation heads.

    With `config.use_stage_norm`, each feature map except the stem's is normalised by its own layer norm.
    """

    model_class = MvitModel
    _keys_to_ignore_on_load_unexpected = [
        *HierarchicalBackbone._keys_to_ignore_on_load_unexpected,
        # Detectors are initialised from classifiers, without their class token.
        r"^model\.embeddings\.class_token$",
    ]

    def __init__(self, config: MvitConfig):
        super().__init__(config)
        self.num_features = [config.stem_size, *config.output_sizes]

    def make_parts(self, config: MvitConfig) -> None:
        super().make_parts(config)
        self.stage_norms = None
        if config.use_stage_norm:
            sizes = config.output_sizes
            self.stage_norms = nn.ModuleList(LayerNorm2d(size, eps=config.layer_norm_eps) for size in sizes)

    def stage_maps(self, outputs: EncoderOutput) -> tuple[torch.Tensor, ...]:
        if self.stage_norms is None:
            return outputs["hidden_states"]
        stem, *maps = outputs["hidden_states"]
        return stem, *(norm(feature_map) for norm, feature_map in zip(self.stage_norms, maps, strict=True))


__all__ = [
    "MvitBackbone",
    "MvitForImageClassification",
    "MvitForVideoClassification",
    "MvitModel",
    "MvitPreTrainedModel",
]
