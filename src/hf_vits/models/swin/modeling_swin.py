"""Swin: hierarchical vision transformer with attention in shifted windows.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv 2103.14030;
microsoft/Swin-Transformer (models/swin_transformer.py), ofsoundof/LocalViT (models/localvit_swin.py).
"""

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...configuration import pair
from ...layers.convolution import to_map, to_tokens
from ...layers.locality import make_feed_forward
from ...layers.patch import ConvEmbedding, PatchMerging, check_pixel_values
from ...layers.position import PositionEmbedding
from ...layers.stages import WindowStage
from ...layers.transformer import drop_path_rates_of_stages
from ...layers.window import WindowAttention
from ...modeling import EncoderOutput, ForImageClassification, HierarchicalBackbone, VitsHierarchicalPreTrainedModel
from .configuration_swin import SwinConfig


def stage_grid(config: SwinConfig, stage: int) -> tuple[int, int]:
    """Return the (height, width) in tokens of a stage's feature map for an image of `config.image_size`."""
    stride = config.patch_size * 2**stage
    height, width = pair(config.image_size)
    return -(-height // stride), -(-width // stride)


class SwinEmbeddings(ConvEmbedding):
    """Patch embedding with layer norm, after padding the image to whole patches; optional mask token and positions."""

    def __init__(self, config: SwinConfig):
        super().__init__(config.num_channels, config.hidden_sizes[0], config.patch_size, eps=config.layer_norm_eps)
        if not config.use_patch_norm:
            self.norm = nn.Identity()
        self.patch_size = config.patch_size
        self.num_merged = 2 ** (len(config.depths) - 1)  # patches per token of the last stage, either way
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_sizes[0])) if config.use_mask_token else None
        self.position_embedding = None
        if config.use_absolute_embeddings:
            self.position_embedding = PositionEmbedding(stage_grid(config, 0), config.hidden_sizes[0])
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixel_values: torch.Tensor, bool_masked_pos: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, hidden_size, rows, columns)."""
        height, width = pixel_values.shape[-2:]
        padding = (0, -width % self.patch_size, 0, -height % self.patch_size)
        if any(padding):
            pixel_values = nn.functional.pad(pixel_values, padding)
        feature_map = super().forward(pixel_values)
        if bool_masked_pos is not None:
            feature_map = self.replace_masked(feature_map, bool_masked_pos)
        if self.position_embedding is not None:
            grid = tuple(feature_map.shape[-2:])
            feature_map = feature_map + to_map(self.position_embedding(grid), grid)
        return self.dropout(feature_map)

    def replace_masked(self, feature_map: torch.Tensor, bool_masked_pos: torch.Tensor) -> torch.Tensor:
        """Replace all patches that belong to masked tokens of the last stage by the mask token."""
        if self.mask_token is None:
            raise ValueError("bool_masked_pos needs a mask token: build the model with use_mask_token=True")
        rows, columns = (-(-side // self.num_merged) for side in feature_map.shape[-2:])
        expected = (feature_map.shape[0], rows * columns)
        if bool_masked_pos.shape != expected:
            raise ValueError(
                f"bool_masked_pos must be (batch, tokens of the last stage) = {expected}, True where one is masked, "
                f"got {tuple(bool_masked_pos.shape)}"
            )
        mask = bool_masked_pos.bool().unflatten(1, (rows, columns))
        for axis in (1, 2):
            mask = mask.repeat_interleave(self.num_merged, axis)
        mask = mask[:, None, : feature_map.shape[2], : feature_map.shape[3]]
        return torch.where(mask, self.mask_token.to(feature_map.dtype).transpose(1, 2)[..., None], feature_map)


class SwinLayer(GradientCheckpointingLayer):
    """x + attention(norm(x)), then the feed-forward of `config.feed_forward`."""

    def __init__(self, config: SwinConfig, stage: int, window_size: int, drop_path_rate: float):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        self.attention_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.attention = WindowAttention(
            config,
            hidden_size,
            config.num_attention_heads[stage],
            window=(window_size, window_size),
            qkv_bias=config.qkv_bias,
            attention_dropout=config.attention_probs_dropout_prob,
            projection_dropout=config.hidden_dropout_prob,
        )
        intermediate_size = int(hidden_size * config.mlp_ratio)
        squeeze_size = config.squeeze_sizes[stage]
        self.feed_forward = make_feed_forward(config, hidden_size, intermediate_size, squeeze_size, drop_path_rate)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], mask: torch.Tensor | None, **kwargs
    ) -> torch.Tensor:
        """Map (batch, rows * columns, hidden_size) to the same shape; `mask` as in `WindowAttention.forward`."""
        attended, _ = self.attention(self.attention_norm(hidden_states), grid, mask, **kwargs)
        return self.feed_forward(hidden_states + self.drop_path(attended), grid)


def make_stage(config: SwinConfig, stage: int, grid: tuple[int, int], rates: list[float]) -> WindowStage:
    """Make stage number `stage`.

    Args:
        grid: (height, width) of the feature map in tokens for `config.image_size`. The window's side is at most its
            smaller side.
        rates: stochastic depth rate of each layer.
    """
    sizes = config.hidden_sizes
    window_size = min(config.window_size, *grid)
    shifts = True
    if config.shift_like == "image_size":
        shifts = "always" if min(grid) > config.window_size else False
    return WindowStage(
        PatchMerging(sizes[stage - 1], sizes[stage], config.layer_norm_eps) if stage else None,
        [SwinLayer(config, stage, window_size, rate) for rate in rates],
        (window_size, window_size),
        shifts,
    )


class SwinPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = SwinConfig
    _no_split_modules = ["SwinLayer"]

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, SwinEmbeddings) and module.mask_token is not None:
            init.zeros_(module.mask_token)
        else:
            super()._init_weights(module)


class SwinModel(SwinPreTrainedModel):
    """Swin encoder. `pooler_output` is the mean of the tokens.

    Args:
        add_pooling_layer: whether the final norm exists and `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: SwinConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = SwinEmbeddings(config)
        self.stages = nn.ModuleList()
        for stage, rates in enumerate(drop_path_rates_of_stages(config.drop_path_rate, config.depths)):
            self.stages.append(make_stage(config, stage, stage_grid(config, stage), rates))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width) of any size, normalised by the image processor.
            bool_masked_pos: (batch, tokens of the last stage), True where the mask token replaces all patches of such
                a token.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        hidden_states = self.embeddings(pixel_values, bool_masked_pos)
        for stage in self.stages:
            hidden_states = stage(hidden_states, **kwargs)
        return self.normed_and_pooled(to_tokens(hidden_states))


class SwinForImageClassification(ForImageClassification, SwinPreTrainedModel):
    """Swin with a linear classifier on the mean of its tokens."""

    model_class = SwinModel


class SwinBackbone(HierarchicalBackbone, SwinPreTrainedModel):
    """Swin that returns the feature map of each stage, for detection and segmentation heads."""

    model_class = SwinModel


__all__ = ["SwinBackbone", "SwinForImageClassification", "SwinModel", "SwinPreTrainedModel"]
