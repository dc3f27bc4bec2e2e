"""Vision Transformer.

Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv 2010.11929, and Zhai et al., "Scaling Vision
Transformers", arXiv 2106.04560; google-research/vision_transformer (vit_jax/models_vit.py) and
google-research/big_vision (big_vision/models/vit.py).
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import MaskedImageModelingOutput
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...configuration import pair
from ...layers.patch import PatchDropout, PatchEmbedding, take_tokens
from ...layers.pooling import AttentionPooling
from ...layers.position import FixedPositionEmbedding, PositionEmbedding
from ...layers.stems import ResNetStem, StandardizedConv2d
from ...layers.transformer import TransformerLayer, drop_path_rates
from ...modeling import (
    EncoderOutput,
    ForImageClassification,
    IsotropicBackbone,
    PreTrainedMixin,
    VitsPreTrainedModel,
    init_as_flax,
    only_pooled_is_read,
)
from .configuration_vit import ViTConfig


class ViTEmbeddings(nn.Module):
    """Embeddings: class token and patches with positions, optional mask token and patch dropout."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.patch_embedding = self.make_patch_embedding(config)
        self.prefix_tokens = self.make_prefix_tokens(config)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size)) if config.use_mask_token else None
        self.position_embedding = self.make_position_embedding(config)
        self.has_prefix_positions = config.position_embedding_prefix and config.position_embedding_type == "learned"
        self.patch_dropout = PatchDropout(config.patch_drop_rate)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def make_patch_embedding(self, config: ViTConfig) -> Any:
        if config.stem_depths is None:
            return PatchEmbedding(config.num_channels, config.hidden_size, pair(config.patch_size))
        sizes = config.num_channels, config.hidden_size, pair(config.patch_size), config.stem_depths
        return ResNetStem(*sizes, config.stem_weight_eps, config.stem_norm_eps)

    def make_prefix_tokens(self, config: ViTConfig) -> nn.Parameter | None:
        """Make the parameter (1, prefix tokens, hidden_size) of all prefix tokens; None for none."""
        count = config.num_prefix_tokens
        return nn.Parameter(torch.zeros(1, count, config.hidden_size)) if count else None

    def make_position_embedding(self, config: ViTConfig) -> nn.Module | None:
        grid = self.patch_embedding.grid(*pair(config.image_size))
        if config.position_embedding_type == "none":
            return None
        if config.position_embedding_type == "sincos2d":
            return FixedPositionEmbedding(grid, config.hidden_size)
        num_prefix_tokens = config.num_prefix_tokens if config.position_embedding_prefix else 0
        return PositionEmbedding(grid, config.hidden_size, num_prefix_tokens, config.position_interpolation)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in tokens for an image size in pixels."""
        return self.patch_embedding.grid(height, width)

    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        kept_patches: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, prefix + patches, hidden_size)."""
        patches = self.patch_embedding(pixel_values)
        grid = tuple(patches.shape[-2:])
        tokens = patches.flatten(2).transpose(1, 2)
        if bool_masked_pos is not None:
            tokens = self.replace_masked(tokens, bool_masked_pos)
        prefix = self.prefix_tokens
        if self.position_embedding is not None:
            positions = self.position_embedding(grid)
            if self.has_prefix_positions and prefix is not None:
                prefix = prefix + positions[:, : prefix.shape[1]]
                positions = positions[:, prefix.shape[1] :]
            tokens = tokens + positions
        tokens = self.patch_dropout(tokens) if kept_patches is None else take_tokens(tokens, kept_patches)
        if prefix is not None:
            tokens = torch.cat([prefix.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.dropout(tokens)

    def replace_masked(self, tokens: torch.Tensor, bool_masked_pos: torch.Tensor) -> torch.Tensor:
        if self.mask_token is None:
            raise ValueError("bool_masked_pos needs a mask token: build the model with use_mask_token=True")
        if bool_masked_pos.shape != tokens.shape[:2]:
            raise ValueError(
                f"bool_masked_pos must be (batch, patches) = {tuple(tokens.shape[:2])}, True where a patch is masked, "
                f"got {tuple(bool_masked_pos.shape)}"
            )
        return torch.where(bool_masked_pos[..., None].bool(), self.mask_token.to(tokens.dtype), tokens)


class ViTPooler(nn.Module):
    """Pooling of tokens, then norm and representation layer, if there are any."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.pooling = config.pooling
        self.num_prefix_tokens = config.num_prefix_tokens
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.norm_after_pooling else None
        self.attention_pooling = AttentionPooling(config) if config.pooling == "map" else None
        size = config.representation_size
        self.representation = nn.Linear(config.hidden_size, size) if size is not None else None

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to (batch, channels); with pooling "none" to (batch, tokens, channels)."""
        if self.pooling in ("token", "first"):
            hidden_states = hidden_states[:, 0]
        elif self.pooling == "mean":
            hidden_states = hidden_states[:, self.num_prefix_tokens :].mean(dim=1)
        elif self.pooling == "map":
            hidden_states = self.attention_pooling(hidden_states)
        if self.norm is not None:
            hidden_states = self.norm(hidden_states)
        return self.represent(hidden_states)

    def represent(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Apply the representation layer, linear and tanh, if there is one."""
        return hidden_states if self.representation is None else self.representation(hidden_states).tanh()


class ViTPreTrainedModel(VitsPreTrainedModel):
    config_class = ViTConfig

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as the Flax originals: Xavier in the encoder, LeCun elsewhere, the classifier at zero."""
        if getattr(module, "is_fused", False):
            bound = math.sqrt(6 / (2 * module.in_features))
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and module is getattr(self, "classifier", None):
            init.zeros_(module.weight)
            init.constant_(module.bias, self.config.head_bias_init)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            init.normal_(module.bias, std=1e-6)
        elif isinstance(module, StandardizedConv2d | nn.Conv2d):
            init_as_flax(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, PositionEmbedding):
            std = self.config.position_initializer_range
            init.normal_(module.table, std=self.config.hidden_size**-0.5 if std is None else std)
        elif isinstance(module, ViTEmbeddings):
            for token in (module.prefix_tokens, module.mask_token):
                if token is not None:
                    init.zeros_(token)
        elif isinstance(module, AttentionPooling):
            init.xavier_uniform_(module.probe)
        else:
            super()._init_weights(module)


class ViTModel(ViTPreTrainedModel):
    """Vision Transformer encoder.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    _input_embed_layer = "patch_embedding"
    embeddings_class = ViTEmbeddings
    layer_class = TransformerLayer
    pooler_class = ViTPooler

    def __init__(self, config: ViTConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = self.embeddings_class(config)
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers, config.drop_path_schedule)
        self.layers = nn.ModuleList(self.layer_class(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        if config.norm_after_pooling:
            self.norm = nn.Identity()
        self.pooler = self.pooler_class(config) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        prefix_only: bool = False,
        kept_patches: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            bool_masked_pos: (batch, patches), True where the mask token replaces a patch.
            prefix_only: compute only the prefix tokens of `last_hidden_state`, which saves most of the last layer's
                operations.
            kept_patches: (batch, kept) indices of the patches that are encoded, in this order; None encodes all.
        """
        hidden_states = self.embeddings(pixel_values, bool_masked_pos, kept_patches)
        arguments = kwargs | self.layer_arguments(pixel_values)
        *layers, last_layer = self.layers
        for layer in layers:
            hidden_states = layer(hidden_states, **arguments)
        num_queries = self.config.num_prefix_tokens if prefix_only else None
        hidden_states = self.norm(last_layer(hidden_states, num_queries=num_queries, **arguments))
        pooled = self.pooler(hidden_states) if self.pooler is not None else None
        return EncoderOutput(last_hidden_state=hidden_states, pooler_output=pooled)

    def layer_arguments(self, pixel_values: torch.Tensor) -> dict:
        """Return keyword arguments for the layers."""
        return {}


class PrefixClassification(PreTrainedMixin):
    """Mixin of classifiers: the base model leaves out the last layer's patch tokens where nothing reads them."""

    def encode(self, pixel_values: torch.Tensor | None, **kwargs) -> EncoderOutput:
        pools_token = self.config.pooling == "token"
        prefix_only = pools_token and only_pooled_is_read(self, self.model.layers[-1], kwargs)
        return self.model(pixel_values, prefix_only=prefix_only, return_dict=True, **kwargs)


class ViTForImageClassification(PrefixClassification, ForImageClassification, ViTPreTrainedModel):
    """ViT with a linear classifier on its pooled output."""

    model_class = ViTModel


class ViTBackbone(IsotropicBackbone, ViTPreTrainedModel):
    """ViT that returns feature maps, for detection and segmentation heads."""

    model_class = ViTModel


class ViTForMaskedImageModeling(ViTPreTrainedModel):
    """ViT for masked image modelling with a linear decoder from tokens to pixels (SimMIM, arXiv 2111.09886)."""

    _keys_to_ignore_on_load_unexpected = [r"^classifier\.", r"^model\.pooler\."]

    def __init__(self, config: ViTConfig):
        super().__init__(config)
        self.model = ViTModel(config, add_pooling_layer=False)
        self.decoder = nn.Sequential(
            nn.Conv2d(config.hidden_size, config.encoder_stride**2 * config.num_channels, kernel_size=1),
            nn.PixelShuffle(config.encoder_stride),
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedImageModelingOutput:
        """Reconstruct images from their visible patches.

        Args:
            pixel_values: (batch, num_channels, height, width).
            bool_masked_pos: (batch, patches), True where a patch is masked. With it, `loss` is the mean absolute
                error over the masked pixels.

        Returns:
            `reconstruction` (batch, num_channels, rows * encoder_stride, columns * encoder_stride).
        """
        outputs = self.model(pixel_values, bool_masked_pos, return_dict=True, **kwargs)
        grid = self.model.embeddings.grid(*pixel_values.shape[-2:])
        tokens = outputs.last_hidden_state[:, self.config.num_prefix_tokens :]
        reconstruction = self.decoder(tokens.transpose(1, 2).unflatten(2, grid))
        loss = None
        if bool_masked_pos is not None:
            if reconstruction.shape != pixel_values.shape:
                raise ValueError(
                    f"the loss compares pixels, but encoder_stride={self.config.encoder_stride} reconstructs "
                    f"{tuple(reconstruction.shape[-2:])} for images of {tuple(pixel_values.shape[-2:])}: set "
                    "encoder_stride to the patch size"
                )
            mask = bool_masked_pos.unflatten(1, grid).to(reconstruction.dtype)[:, None]
            mask = nn.functional.interpolate(mask, scale_factor=self.config.encoder_stride, mode="nearest")
            error = (reconstruction - pixel_values).abs().mean(dim=1, keepdim=True)
            loss = (error * mask).sum() / mask.sum().clamp(min=1)
        return MaskedImageModelingOutput(
            loss=loss,
            reconstruction=reconstruction,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


__all__ = ["ViTBackbone", "ViTForImageClassification", "ViTForMaskedImageModeling", "ViTModel", "ViTPreTrainedModel"]
