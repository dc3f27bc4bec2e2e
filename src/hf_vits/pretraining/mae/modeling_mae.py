"""Masked autoencoder: a ViT encodes a quarter of the patches, and a small decoder reconstructs the others.

He et al., "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377; facebookresearch/mae (models_mae.py).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from ...configuration import pair
from ...layers.patch import check_pixel_values, cut_patches, join_patches, take_tokens
from ...layers.position import FrozenPositionEmbedding
from ...layers.transformer import TransformerLayer
from ...models.vit.modeling_vit import ViTEmbeddings, ViTModel, ViTPreTrainedModel
from ...objectives.masks import random_mask
from ...objectives.reconstruction import MaskedPatchRegression
from ..method import Column, PretrainingMethod
from .configuration_mae import MAEConfig


@dataclass
class MAEOutput(ModelOutput):
    """Output of a masked autoencoder, with the names of transformers' ViTMAE.

    loss: scalar, mean squared error of the removed patches.
    logits: (batch, patches, rows * columns * channels), reconstructions of all patches; `MAEForPreTraining.paint`
        joins them to images.
    mask: (batch, patches), True where a patch was removed.
    ids_restore: (batch, patches), index of each patch in the sequence of visible patches followed by removed ones.
    last_hidden_state: (batch, 1 + visible patches, hidden_size), class token first, patches in shuffled order.
    hidden_states, attentions: of the encoder, on request.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    ids_restore: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class MAEEmbeddings(ViTEmbeddings):
    """ViT's embeddings with fixed sine-cosine positions."""

    def make_position_embedding(self, config: MAEConfig) -> nn.Module:
        grid = self.patch_embedding.grid(*pair(config.image_size))
        interpolation = config.position_interpolation
        return FrozenPositionEmbedding(grid, config.hidden_size, config.num_prefix_tokens, interpolation)


class MAEDecoder(nn.Module):
    """Decoder from the encoder's visible patches to the pixels of all patches."""

    def __init__(self, config: MAEConfig):
        super().__init__()
        sizes = config.decoder_config()
        hidden_size = sizes.hidden_size
        self.num_prefix_tokens = config.num_prefix_tokens
        patch_size = pair(config.patch_size)
        grid = tuple(side // size for side, size in zip(pair(config.image_size), patch_size, strict=True))
        self.embedding = nn.Linear(config.hidden_size, hidden_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.position_embedding = FrozenPositionEmbedding(
            grid, hidden_size, self.num_prefix_tokens, config.position_interpolation
        )
        self.layers = nn.ModuleList(TransformerLayer(sizes) for _ in range(sizes.num_hidden_layers))
        layers: Any = self.layers
        for layer in layers:
            layer.attention.config = config  # the model's, so that its attention implementation applies
        self.norm = nn.LayerNorm(hidden_size, eps=sizes.layer_norm_eps)
        self.prediction = nn.Linear(hidden_size, math.prod(patch_size) * config.num_channels)

    def forward(self, visible: torch.Tensor, restore: torch.Tensor, grid: tuple[int, int], **kwargs) -> torch.Tensor:
        """Map (batch, prefix + visible patches, hidden_size) to (batch, patches, values of a patch)."""
        tokens = self.embedding(visible)
        prefix, patches = tokens[:, : self.num_prefix_tokens], tokens[:, self.num_prefix_tokens :]
        removed = self.mask_token.to(tokens.dtype).expand(tokens.shape[0], restore.shape[1] - patches.shape[1], -1)
        patches = take_tokens(torch.cat([patches, removed], dim=1), restore)
        tokens = torch.cat([prefix, patches], dim=1) + self.position_embedding(grid)
        for layer in self.layers:
            tokens = layer(tokens, **kwargs)
        return self.prediction(self.norm(tokens[:, self.num_prefix_tokens :]))


class MAEPreTrainedModel(ViTPreTrainedModel):
    config_class = MAEConfig

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise linear layers and the patch embedding Xavier uniform, tokens normal, positions sine-cosine."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):  # patches
            fan_out, fan_in = len(module.weight), module.weight[0].numel()
            bound = math.sqrt(6 / (fan_in + fan_out))
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -(fan_in**-0.5), fan_in**-0.5)
        elif isinstance(module, FrozenPositionEmbedding):
            init.copy_(module.table, module.initial_table())
        elif isinstance(module, MAEEmbeddings):
            init.normal_(module.prefix_tokens, std=0.02)
        elif isinstance(module, MAEDecoder):
            init.normal_(module.mask_token, std=0.02)
        else:
            super()._init_weights(module)


class MAEEncoder(MAEPreTrainedModel, ViTModel):
    """ViT encoder with MAE's initialisation and fixed positions."""

    embeddings_class = MAEEmbeddings


class MAEForPreTraining(PretrainingMethod, MAEPreTrainedModel):
    """Masked autoencoder over a ViT; the encoder runs on the visible patches alone."""

    def __init__(self, config: MAEConfig):
        super().__init__(config)
        self.model = MAEEncoder(config, add_pooling_layer=False)
        self.decoder = MAEDecoder(config)
        self.objective = MaskedPatchRegression(config.normalize_targets)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MAEOutput:
        """Reconstruct the removed patches.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            noise: (batch, patches); the patches of largest noise are removed. None to draw it.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        grid = self.model.embeddings.grid(*pixel_values.shape[-2:])
        expected = (pixel_values.shape[0], math.prod(grid))
        if noise is None:
            noise = torch.rand(expected, device=pixel_values.device)
        elif noise.shape != expected:
            raise ValueError(f"noise must be (batch, patches) = {expected}, got {tuple(noise.shape)}")
        masking = random_mask(noise, self.config.mask_ratio)
        outputs = self.model(pixel_values, kept_patches=masking.kept, return_dict=True, **kwargs)
        logits = self.decoder(outputs.last_hidden_state, masking.restore, grid)
        loss, _ = self.objective(logits, cut_patches(pixel_values, pair(self.config.patch_size)), masking.mask)
        return MAEOutput(
            loss=loss,
            logits=logits,
            mask=masking.mask,
            ids_restore=masking.restore,
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def paint(self, logits: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Join patches (batch, rows * columns, values) to images (batch, num_channels, height, width).

        Pixels are normalised as by the image processor or, with `config.normalize_targets`, per patch to mean 0 and
        variance 1.

        Args:
            grid: (rows, columns) of patches.
        """
        return join_patches(logits, grid, pair(self.config.patch_size))

    def picture(self, pixel_values: torch.Tensor) -> list[Column]:
        """Return what the encoder sees and what the decoder paints; visible patches are drawn as they are.

        With `config.normalize_targets` painted patches get the mean and variance of the image's own.
        """
        grid = self.model.embeddings.grid(*pixel_values.shape[-2:])
        noise = torch.rand(len(pixel_values), math.prod(grid), generator=torch.Generator().manual_seed(0))
        outputs = self(pixel_values, noise=noise.to(pixel_values.device), return_dict=True)
        patches, painted = cut_patches(pixel_values, pair(self.config.patch_size)), outputs.logits
        if self.config.normalize_targets:
            variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
            painted = painted * variance.sqrt() + mean
        painted = self.paint(painted.where(outputs.mask[..., None], patches), grid)
        seen = Column(f"{1 - self.config.mask_ratio:.0%} seen", pixel_values, hidden=outputs.mask.unflatten(1, grid))
        return [seen, Column("painted", painted)]

    def export(self) -> ViTModel:
        """Return a copy of the encoder as a plain `ViTModel`, whose positions can be trained."""
        encoder = ViTModel(self.config.encoder_config())
        encoder.load_state_dict(self.model.state_dict())
        return encoder.train(self.training)


__all__ = ["MAEEncoder", "MAEForPreTraining", "MAEPreTrainedModel"]
