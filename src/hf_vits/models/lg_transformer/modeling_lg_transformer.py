"""LG-Transformer: window attention at several granularities in every layer.

Li et al., "Local-to-Global Self-Attention in Vision Transformers", arXiv 2107.04735. The authors published no code
and no checkpoints, so this is a reconstruction. Known from public sources: hierarchical stages of window attention,
several paths of different granularity per layer, and the size of LG-T, 32.6M parameters and 4.8 GFLOPs.

Derived from this size: everything else as in Swin, one MLP per layer, a separate attention with relative position bias
per path, and the strides of the paths. Assumed: average pooling before and bilinear interpolation after a path's
attention, the sum of the paths, one shared norm before them, and no shifted windows. Pooling, interpolation and shift
are configuration fields.
"""

import torch
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.convolution import to_map, to_tokens
from ...layers.patch import ConvEmbedding, PatchMerging, check_pixel_values
from ...layers.stages import WindowStage
from ...layers.transformer import PreNormLayer, drop_path_rates_of_stages
from ...layers.window import WindowAttention, pad_to_windows
from ...modeling import EncoderOutput, ForImageClassification, HierarchicalBackbone, VitsHierarchicalPreTrainedModel
from .configuration_lg_transformer import LgTransformerConfig


class LgTransformerPath(nn.Module):
    """Window attention on a downsampled feature map; the larger the stride, the further a window reaches."""

    def __init__(self, config: LgTransformerConfig, stage: int, stride: int):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        self.stride = stride
        self.interpolation = config.path_interpolation
        if stride == 1:
            self.pooling = None
        elif config.path_pooling == "average":
            self.pooling = nn.AvgPool2d(stride)
        else:
            self.pooling = nn.Conv2d(hidden_size, hidden_size, stride, stride, groups=hidden_size)
        self.attention = WindowAttention(
            config,
            hidden_size,
            config.num_attention_heads[stage],
            (config.window_size, config.window_size),
            qkv_bias=config.qkv_bias,
            attention_dropout=config.attention_probs_dropout_prob,
            projection_dropout=config.hidden_dropout_prob,
        )

    def forward(
        self, tokens: torch.Tensor, grid: tuple[int, int], mask: torch.Tensor | None, **kwargs
    ) -> torch.Tensor:
        """Map (batch, rows * columns, hidden_size) to the same shape; `mask` as in `WindowAttention.forward`."""
        if self.pooling is None:
            return self.attention(tokens, grid, mask, **kwargs)[0]
        padded = pad_to_windows(tokens.unflatten(1, grid), (self.stride, self.stride)).permute(0, 3, 1, 2)
        coarse = self.pooling(padded)
        coarse_grid = tuple(coarse.shape[-2:])
        attended, _ = self.attention(to_tokens(coarse), coarse_grid, **kwargs)
        fine = nn.functional.interpolate(to_map(attended, coarse_grid), padded.shape[-2:], mode=self.interpolation)
        return to_tokens(fine[..., : grid[0], : grid[1]])


class LgTransformerLayer(PreNormLayer):
    """Pre-norm layer whose attention is the sum of all paths."""

    def __init__(self, config: LgTransformerConfig, stage: int, drop_path_rate: float):
        super().__init__(config, config.hidden_sizes[stage], config.mlp_ratio, drop_path_rate)
        self.paths = nn.ModuleList(LgTransformerPath(config, stage, stride) for stride in config.path_strides[stage])

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], mask: torch.Tensor | None, **kwargs
    ) -> torch.Tensor:
        """Map (batch, rows * columns, hidden_size) to the same shape; `mask` as in `WindowAttention.forward`."""
        normed = self.attention_norm(hidden_states)
        first, *others = [path(normed, grid, mask, **kwargs) for path in self.paths]
        return self.add(hidden_states, sum(others, first))


def make_stage(config: LgTransformerConfig, stage: int, rates: list[float]) -> WindowStage:
    """Make stage number `stage`, with a layer per stochastic depth rate."""
    sizes = config.hidden_sizes
    return WindowStage(
        PatchMerging(sizes[stage - 1], sizes[stage], config.layer_norm_eps) if stage else None,
        [LgTransformerLayer(config, stage, rate) for rate in rates],
        (config.window_size, config.window_size),
        config.shift_windows,
    )


class LgTransformerPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = LgTransformerConfig
    _no_split_modules = ["LgTransformerLayer"]


class LgTransformerModel(LgTransformerPreTrainedModel):
    """LG-Transformer encoder. `pooler_output` is the mean of the tokens.

    Args:
        add_pooling_layer: whether the final norm exists and `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: LgTransformerConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = ConvEmbedding(
            config.num_channels, config.hidden_sizes[0], config.patch_size, eps=config.layer_norm_eps
        )
        rates = drop_path_rates_of_stages(config.drop_path_rate, config.depths)
        self.stages = nn.ModuleList(make_stage(config, stage, own) for stage, own in enumerate(rates))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor, at least one patch
                large. Pixels at the right and lower border that fill no patch are left out; feature maps that pooling,
                windows or merging do not fill are padded.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        hidden_states = self.embeddings(pixel_values)
        for stage in self.stages:
            hidden_states = stage(hidden_states, **kwargs)
        return self.normed_and_pooled(to_tokens(hidden_states))


class LgTransformerForImageClassification(ForImageClassification, LgTransformerPreTrainedModel):
    """LG-Transformer with a linear classifier on the mean of its tokens."""

    model_class = LgTransformerModel


class LgTransformerBackbone(HierarchicalBackbone, LgTransformerPreTrainedModel):
    """LG-Transformer that returns the feature map of each stage, for detection and segmentation heads."""

    model_class = LgTransformerModel


__all__ = [
    "LgTransformerBackbone",
    "LgTransformerForImageClassification",
    "LgTransformerModel",
    "LgTransformerPreTrainedModel",
]
