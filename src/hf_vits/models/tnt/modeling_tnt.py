"""TNT: an inner transformer on the pixels of every patch, and an outer transformer on the patches.

Han et al., "Transformer in Transformer", arXiv 2103.00112; timm (models/tnt.py), ofsoundof/LocalViT
(models/tnt.py, models/localvit_tnt.py).
"""

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
from ...layers.locality import MLPFeedForward, make_feed_forward
from ...layers.patch import check_pixel_values, patch_grid
from ...layers.position import PositionEmbedding
from ...layers.transformer import drop_path_rates
from ...layers.window import partition
from ...modeling import EncoderOutput, ForImageClassification, IsotropicBackbone, VitsPreTrainedModel
from .configuration_tnt import TntConfig


class TntPixelEmbeddings(nn.Module):
    """Embedding of the inner transformer's tokens: an overlapping convolution, cut into patches, with positions."""

    def __init__(self, config: TntConfig):
        super().__init__()
        self.projection = nn.Conv2d(
            config.num_channels, config.pixel_hidden_size, kernel_size=7, stride=config.pixel_stride, padding=3
        )
        side = config.patch_size // config.pixel_stride
        self.window = (side, side)
        self.patch = pair(config.patch_size) if config.isolate_patches else None
        self.positions = nn.Parameter(torch.zeros(1, side * side, config.pixel_hidden_size))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch * patches, tokens in a patch, pixel_hidden_size)."""
        pixel_values = pixel_values.to(self.projection.weight.dtype)
        if self.patch is not None:
            patches = partition(pixel_values.permute(0, 2, 3, 1), self.patch).unflatten(1, self.patch)
            return self.projection(patches.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2) + self.positions
        feature_map = self.projection(pixel_values)
        return partition(feature_map.permute(0, 2, 3, 1), self.window) + self.positions


class TntEmbeddings(nn.Module):
    """Embedding of the inner transformer's tokens, and of the outer transformer's, projected from each patch's."""

    def __init__(self, config: TntConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.patch_size = pair(config.patch_size)
        self.pixel_embeddings = TntPixelEmbeddings(config)
        patch_channels = (config.patch_size // config.pixel_stride) ** 2 * config.pixel_hidden_size
        self.pixel_norm = nn.LayerNorm(patch_channels, eps=config.layer_norm_eps)
        self.projection = nn.Linear(patch_channels, config.hidden_size)
        self.patch_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embedding = PositionEmbedding(
            self.grid(*pair(config.image_size)), config.hidden_size, num_prefix_tokens=1
        )
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in patches for a size in pixels; ValueError where patches do not fill it."""
        return patch_grid(height, width, self.patch_size)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map images to patch tokens (batch, 1 + patches, hidden_size) and pixel tokens, see `TntPixelEmbeddings`."""
        check_pixel_values(pixel_values, self.num_channels)
        grid = self.grid(*pixel_values.shape[-2:])
        pixels = self.pixel_embeddings(pixel_values)
        patches = pixels.view(pixel_values.shape[0], grid[0] * grid[1], -1)
        patches = self.patch_norm(self.projection(self.pixel_norm(patches)))
        tokens = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return self.dropout(tokens + self.position_embedding(grid)), pixels


class TntPixelAttention(SelfAttention):
    """Self-attention of a patch's pixels; a separate class, so that `attentions` records patches alone."""


class TntPatchAttention(SelfAttention):
    """Self-attention of patches and class token."""


class TntLayer(GradientCheckpointingLayer):
    """Layer of the inner transformer, whose output is added to the patches, then layer of the outer transformer."""

    def __init__(self, config: TntConfig, drop_path_rate: float):
        super().__init__()
        width, eps = config.pixel_hidden_size, config.layer_norm_eps
        dropout = {
            "attention_dropout": config.attention_probs_dropout_prob,
            "projection_dropout": config.hidden_dropout_prob,
        }
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")
        self.pixel_attention_norm = nn.LayerNorm(width, eps=eps)
        self.pixel_attention = TntPixelAttention(
            config, width, config.pixel_num_attention_heads, config.qkv_bias, **dropout
        )
        self.pixel_feed_forward = MLPFeedForward(config, width, config.pixel_intermediate_size, self.drop_path)
        num_pixels, together = (config.patch_size // config.pixel_stride) ** 2, config.isolate_patches
        self.pixel_norm = nn.LayerNorm(num_pixels * width if together else width, eps=eps)
        self.pixel_projection = nn.Linear(num_pixels * width, config.hidden_size, bias=not together)
        self.pixel_projection_norm = nn.LayerNorm(config.hidden_size, eps=eps) if together else None
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=eps)
        self.attention = TntPatchAttention(
            config, config.hidden_size, config.num_attention_heads, config.qkv_bias, **dropout
        )
        self.feed_forward = make_feed_forward(
            config, config.hidden_size, config.intermediate_size, config.squeeze_size, drop_path_rate
        )

    def forward(
        self, patches: torch.Tensor, pixels: torch.Tensor, grid: tuple[int, int], **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute both transformers' next tokens.

        Args:
            patches: (batch, 1 + rows * columns, hidden_size).
            pixels: (batch * rows * columns, tokens in a patch, pixel_hidden_size).

        Returns:
            Patches and pixels, in the same shapes.
        """
        attended, _ = self.pixel_attention(self.pixel_attention_norm(pixels), **kwargs)
        pixels = self.pixel_feed_forward(pixels + self.drop_path(attended), grid)
        shape = (patches.shape[0], grid[0] * grid[1], -1)
        if self.pixel_projection_norm is None:
            seen = self.pixel_projection(self.pixel_norm(pixels).view(shape))
        else:
            seen = self.pixel_projection_norm(self.pixel_projection(self.pixel_norm(pixels.view(shape))))
        patches = patches + nn.functional.pad(seen, (0, 0, 1, 0))
        attended, _ = self.attention(self.attention_norm(patches), **kwargs)
        return self.feed_forward(patches + self.drop_path(attended), grid), pixels


class TntPreTrainedModel(VitsPreTrainedModel):
    config_class = TntConfig
    _no_split_modules = ["TntLayer"]
    _can_record_outputs = {
        "hidden_states": OutputRecorder(TntLayer),
        "attentions": OutputRecorder(TntPatchAttention, index=1),
    }

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, TntPixelEmbeddings):
            init.trunc_normal_(module.positions, std=0.02)
        else:
            super()._init_weights(module)


class TntModel(TntPreTrainedModel):
    """TNT encoder. `pooler_output` is the class token; `hidden_states` and `attentions` are the outer transformer's.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    _input_embed_layer = "pixel_embeddings"

    def __init__(self, config: TntConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = TntEmbeddings(config)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        self.layers = nn.ModuleList(TntLayer(config, rate) for rate in rates)
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
        patches, pixels = self.embeddings(pixel_values)
        grid = self.embeddings.grid(*pixel_values.shape[-2:])
        for layer in self.layers:
            patches, pixels = layer(patches, pixels, grid, **kwargs)
        patches = self.norm(patches)
        pooled = patches[:, 0] if self.add_pooling_layer else None
        return EncoderOutput(last_hidden_state=patches, pooler_output=pooled)


class TntForImageClassification(ForImageClassification, TntPreTrainedModel):
    """TNT with a linear classifier on its class token."""

    model_class = TntModel


class TntBackbone(IsotropicBackbone, TntPreTrainedModel):
    """TNT that returns feature maps of its patches, for detection and segmentation heads."""

    model_class = TntModel


__all__ = ["TntBackbone", "TntForImageClassification", "TntModel", "TntPreTrainedModel"]
