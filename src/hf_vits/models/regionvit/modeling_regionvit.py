"""RegionViT: self-attention of regional tokens, then attention of each regional token and its window.

Chen, Panda and Fan, "RegionViT: Regional-to-Local Attention for Vision Transformers", arXiv 2106.02689; IBM/RegionViT
(regionvit/regionvit.py, regionvit/attention/attention_variants.py).
"""

from typing import NamedTuple

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.attention import SelfAttention, attend
from ...layers.convolution import ConvPositionEmbedding, LayerNorm2d, to_tokens
from ...layers.mlp import MLP
from ...layers.patch import check_pixel_values
from ...layers.relative_position import RelativePositionBias
from ...layers.stages import Stage
from ...layers.transformer import drop_path_rates_of_stages
from ...layers.window import merge, partition
from ...modeling import EncoderOutput, ForImageClassification, HierarchicalBackbone, VitsHierarchicalPreTrainedModel
from .configuration_regionvit import RegionViTConfig


class RegionViTEmbeddings(nn.Module):
    """Embedding of local tokens (small overlapping patches) and of one regional token per window."""

    def __init__(self, config: RegionViTConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.region_size = config.patch_size * config.window_sizes[0]
        self.local_projection = local_projection(config)
        self.regional_projection = nn.Conv2d(
            config.num_channels, config.hidden_sizes[0], kernel_size=self.region_size, stride=self.region_size
        )
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map images to feature maps of local and of regional tokens, each (batch, channels, rows, columns)."""
        check_pixel_values(pixel_values, self.num_channels)
        height, width = pixel_values.shape[-2:]
        if min(height, width) < 2:
            raise ValueError(f"an image of {height}x{width} pixels is too small: height and width must be at least 2")
        pixel_values = pixel_values.to(self.regional_projection.weight.dtype)
        regional = self.regional_projection(self.pad(pixel_values))
        return self.dropout(self.local_projection(pixel_values)), regional

    def pad(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Pad the image with zeros on all sides to whole regions.

        As in the original, if only one side needs padding, the other side is padded by a whole region.
        """
        height, width = pixel_values.shape[-2:]
        if height % self.region_size == 0 and width % self.region_size == 0:
            return pixel_values
        more = [self.region_size - side % self.region_size for side in (width, height)]
        return nn.functional.pad(pixel_values, [part for total in more for part in (total // 2, total - total // 2)])


def local_projection(config: RegionViTConfig) -> nn.Module:
    """Make the patch embedding of local tokens, a convolution or three."""
    channels, patch_size = config.hidden_sizes[0], config.patch_size
    if config.num_conv_layers == 1:
        return nn.Conv2d(config.num_channels, channels, 2 * patch_size, stride=patch_size, padding=patch_size - 1)
    return nn.Sequential(
        nn.Conv2d(config.num_channels, channels // 4, 3, stride=2, padding=1),
        LayerNorm2d(channels // 4),
        ACT2FN[config.hidden_act],
        nn.Conv2d(channels // 4, channels // 2, 3, stride=2, padding=1),
        LayerNorm2d(channels // 2),
        ACT2FN[config.hidden_act],
        nn.Conv2d(channels // 2, channels, 3, padding=1),
    )


class Padding(NamedTuple):
    """Attention masks of windows that extend beyond the feature map; the regional token comes first.

    allowed: boolean (4, queries, keys), for windows inside the feature map, on its right edge, on its lower edge and
        in its corner.
    kind: (batch * windows,), index of each window's mask in `allowed`.
    """

    allowed: torch.Tensor
    kind: torch.Tensor


def window_padding(size: tuple[int, int], grid: tuple[int, int], window: int, batch: int, device) -> Padding | None:
    """Return the masks for a local feature map of `size` in `grid` windows; None where the windows fit.

    On the right edge, tokens attend to each other if both columns are inside the feature map; on the lower edge, if
    both rows are. In the corner either is enough, as in the original, so that some padded tokens are attended to.
    """
    if size == (grid[0] * window, grid[1] * window):
        return None
    offset = torch.arange(window, device=device)
    row_inside = (offset < window - (grid[0] * window - size[0])).repeat_interleave(window)
    column_inside = (offset < window - (grid[1] * window - size[1])).repeat(window)
    inside = nn.functional.pad(torch.stack([column_inside, row_inside]), (1, 0), value=True)
    right, lower = (inside[:, :, None] & inside[:, None]).unbind()
    is_last_row, is_last_column = (torch.arange(count, device=device) == count - 1 for count in grid)
    kind = 2 * is_last_row[:, None] + is_last_column.long()
    return Padding(torch.stack([torch.ones_like(right), right, lower, right | lower]), kind.flatten().repeat(batch))


def check_windows(size: tuple[int, int], grid: tuple[int, int], window: int) -> None:
    """Raise ValueError unless `grid` windows cover a feature map of `size` and each has a token on it.

    Windows of one size in all stages always do. Masks of the original do not fit other sizes: most make it fail.
    """
    if any(not (windows - 1) * window <= side <= windows * window for side, windows in zip(size, grid, strict=True)):
        raise ValueError(
            f"the {grid[0]}x{grid[1]} regional tokens of an image of this size have windows of {window}x{window} "
            f"local tokens, which do not fit the {size[0]}x{size[1]} local tokens of the stage: give an image of "
            "another size, or window_size the same for all stages"
        )


class RegionViTAttention(SelfAttention):
    """Self-attention of regional tokens, or of a regional token and its window, with the same weights.

    In windows, local tokens have a relative position bias.
    """

    def __init__(self, config: RegionViTConfig, stage: int):
        hidden_size, num_heads = config.hidden_sizes[stage], config.num_attention_heads[stage]
        dropouts = (config.attention_probs_dropout_prob, config.hidden_dropout_prob)
        super().__init__(config, hidden_size, num_heads, config.qkv_bias, *dropouts)
        window = config.window_sizes[stage]
        self.position_bias = RelativePositionBias((window, window), num_heads)

    def forward(
        self, hidden_states: torch.Tensor, in_windows: bool = False, padding: Padding | None = None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute attention of (batch, regional tokens, hidden_size) or (batch * windows, 1 + local, hidden_size).

        Args:
            in_windows: whether tokens are windows, the regional token first.
            padding: masks of windows that extend beyond the feature map; None where they fit.

        Returns:
            The same shape, and the probabilities, None unless the implementation is eager.
        """
        query, key, value = self.split(self.qkv(hidden_states))
        bias = nn.functional.pad(self.position_bias(), (1, 0, 1, 0)) if in_windows else None
        if padding is not None:
            # In the original, a query without allowed keys attends to all keys equally, since it sets forbidden scores
            # to the lowest number. A zero query without bias does the same in every precision and implementation.
            attends = padding.allowed.any(dim=-1)[:, None, :, None]
            bias = bias.masked_fill(~padding.allowed[:, None], float("-inf")).masked_fill(~attends, 0.0)[padding.kind]
            query = query * attends[padding.kind]
        attended, probabilities = attend(self, query, key, value, bias, **kwargs)
        return self.dropout(self.projection(attended.flatten(2))), probabilities


class RegionViTLayer(GradientCheckpointingLayer):
    """Pre-norm layer: self-attention of regional tokens, attention in windows, and an MLP."""

    def __init__(self, config: RegionViTConfig, stage: int, drop_path_rate: float):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        self.regional_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.local_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.attention = RegionViTAttention(config, stage)
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        intermediate_size = int(hidden_size * config.mlp_ratio)
        self.mlp = MLP(hidden_size, intermediate_size, config.hidden_act, config.hidden_dropout_prob)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, tokens: torch.Tensor, batch: int, padding: Padding | None, **kwargs) -> torch.Tensor:
        """Return (batch * windows, 1 + local tokens, hidden_size), the regional token first, to the same shape."""
        regional = tokens[:, 0].unflatten(0, (batch, -1))
        attended, _ = self.attention(self.regional_norm(regional), **kwargs)
        regional = regional + self.drop_path(attended)
        tokens = torch.cat([regional.flatten(0, 1)[:, None], tokens[:, 1:]], dim=1)
        attended, _ = self.attention(self.local_norm(tokens), in_windows=True, padding=padding, **kwargs)
        tokens = tokens + self.drop_path(attended)
        return tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))


class RegionViTStage(Stage):
    """Stage: downsampling of local and regional tokens, except in the first stage, and layers."""

    def __init__(self, config: RegionViTConfig, stage: int, drop_path_rates: list[float]):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        self.window = config.window_sizes[stage]
        self.checks_windows = len(set(config.window_sizes)) > 1
        self.downsampling = None
        if stage:
            before = config.hidden_sizes[stage - 1]
            self.downsampling = nn.Sequential(
                LayerNorm2d(before),
                ACT2FN[config.hidden_act],
                nn.Conv2d(before, hidden_size, 3, stride=2, padding=1, groups=before),
            )
        self.layers = nn.ModuleList(RegionViTLayer(config, stage, rate) for rate in drop_path_rates)
        self.position_embedding = None
        if config.use_conv_position_embedding:
            self.position_embedding = ConvPositionEmbedding(hidden_size, bias=False)
        self.norm = LayerNorm2d(hidden_size) if config.use_stage_norm else None

    def forward(self, local: torch.Tensor, regional: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Map feature maps (batch, channels, rows, columns) of local and regional tokens to the stage's."""
        if self.downsampling is not None:
            local, regional = self.downsampling(local), self.downsampling(regional)
        batch, size, grid = local.shape[0], tuple(local.shape[-2:]), tuple(regional.shape[-2:])
        if self.checks_windows:
            check_windows(size, grid, self.window)
        padding = window_padding(size, grid, self.window, batch, local.device)
        tokens = self.join(local, regional)
        for index, layer in enumerate(self.layers):
            tokens = layer(tokens, batch, padding, **kwargs)
            if index == 0 and self.position_embedding is not None:
                tokens = self.join(*(self.position_embedding(part) for part in self.split(tokens, size, grid)))
        local, regional = self.split(tokens, size, grid)
        return local if self.norm is None else self.norm(local), regional

    def join(self, local: torch.Tensor, regional: torch.Tensor) -> torch.Tensor:
        """Join both feature maps to windows (batch * windows, 1 + local tokens, channels), padded with zeros."""
        below, right = (regional.shape[axis] * self.window - local.shape[axis] for axis in (2, 3))
        local = local.permute(0, 2, 3, 1)
        if below or right:
            local = nn.functional.pad(local, (0, 0, 0, right, 0, below))
        windows = partition(local, (self.window, self.window))
        return torch.cat([to_tokens(regional).flatten(0, 1)[:, None], windows], dim=1)

    def split(self, tokens: torch.Tensor, size: tuple[int, int], grid: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        """Return the inverse of `join`: a local map of `size` and a regional one of `grid`."""
        regional = tokens[:, 0].unflatten(0, (-1, *grid)).permute(0, 3, 1, 2)
        whole = (grid[0] * self.window, grid[1] * self.window)
        local = merge(tokens[:, 1:], (self.window, self.window), whole)[:, : size[0], : size[1]]
        return local.permute(0, 3, 1, 2), regional


class RegionViTPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = RegionViTConfig
    _no_split_modules = ["RegionViTLayer"]


class RegionViTModel(RegionViTPreTrainedModel):
    """RegionViT encoder. `pooler_output` is the mean of the regional tokens, `last_hidden_state` the local tokens.

    `hidden_states` are feature maps of local tokens. `attentions` alternate between regional tokens, (batch, heads,
    regions, regions), and windows, (batch * windows, heads, 1 + local tokens, 1 + local tokens).

    Args:
        add_pooling_layer: whether the final norm exists and `pooler_output` is computed.
    """

    _input_embed_layer = "local_projection"

    def __init__(self, config: RegionViTConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = RegionViTEmbeddings(config)
        rates = drop_path_rates_of_stages(config.drop_path_rate, config.depths)
        self.stages = nn.ModuleList(RegionViTStage(config, stage, own) for stage, own in enumerate(rates))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width) of any size from 2 pixels, normalised by the image
                processor; windows that extend beyond the image are padded and masked.
        """
        local, regional = self.embeddings(pixel_values)
        for stage in self.stages:
            local, regional = stage(local, regional, **kwargs)
        pooled = None if self.norm is None else self.norm(to_tokens(regional)).mean(dim=1)
        return EncoderOutput(last_hidden_state=to_tokens(local), pooler_output=pooled)


class RegionViTForImageClassification(ForImageClassification, RegionViTPreTrainedModel):
    """RegionViT with a linear classifier on its pooled output."""

    model_class = RegionViTModel


class RegionViTBackbone(HierarchicalBackbone, RegionViTPreTrainedModel):
    """RegionViT that returns the local feature map of each stage, for detection and segmentation heads."""

    model_class = RegionViTModel


__all__ = ["RegionViTBackbone", "RegionViTForImageClassification", "RegionViTModel", "RegionViTPreTrainedModel"]
