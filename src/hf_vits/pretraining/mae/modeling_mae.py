"""Masked autoencoder: a ViT that sees a quarter of the patches, and a small decoder that paints the others.

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

from ...layers.patch import check_pixel_values, cut_patches, join_patches, pair, take_tokens
from ...layers.position import FrozenPositionEmbedding
from ...layers.transformer import TransformerLayer
from ...models.vit.modeling_vit import ViTEmbeddings, ViTModel, ViTPreTrainedModel
from ...objectives.masks import random_mask
from ...objectives.reconstruction import MaskedPatchRegression
from .configuration_mae import MAEConfig


@dataclass
class MAEOutput(ModelOutput):
    """Output of a masked autoencoder, with the names of transformers' ViTMAE.

    loss: scalar, mean squared error of the removed patches.
    logits: (batch, patches, rows * columns * channels), every patch as it is painted; `MAEForPreTraining.paint` puts
        them together.
    mask: (batch, patches), True where a patch was removed.
    ids_restore: (batch, patches), where each patch is found in the visible ones followed by the removed.
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
    """ViT's embeddings with a table of positions that stays as it is."""

    def make_position_embedding(self, config: MAEConfig) -> nn.Module:
        grid = self.patch_embedding.grid(*pair(config.image_size))
        interpolation = config.position_interpolation
        return FrozenPositionEmbedding(grid, config.hidden_size, config.num_prefix_tokens, interpolation)


class MAEDecoder(nn.Module):
    """From the visible patches, as the encoder leaves them, to the pixels of all patches."""

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
            layer.attention.config = config  # whose attention implementation may change
        self.norm = nn.LayerNorm(hidden_size, eps=sizes.layer_norm_eps)
        self.prediction = nn.Linear(hidden_size, math.prod(patch_size) * config.num_channels)

    def forward(self, visible: torch.Tensor, restore: torch.Tensor, grid: tuple[int, int], **kwargs) -> torch.Tensor:
        """(batch, prefix + visible patches, hidden_size) to (batch, patches, values of a patch)."""
        tokens = self.embedding(visible)
        prefix, patches = tokens[:, : self.num_prefix_tokens], tokens[:, self.num_prefix_tokens :]
        removed = self.mask_token.to(tokens.dtype).expand(len(tokens), restore.shape[1] - patches.shape[1], -1)
        patches = take_tokens(torch.cat([patches, removed], dim=1), restore)
        tokens = torch.cat([prefix, patches], dim=1) + self.position_embedding(grid)
        for layer in self.layers:
            tokens = layer(tokens, **kwargs)
        return self.prediction(self.norm(tokens[:, self.num_prefix_tokens :]))


class MAEPreTrainedModel(ViTPreTrainedModel):
    config_class = MAEConfig

    @torch.no_grad()
    def _init_weights(self, module):
        """Linear layers, and patches taken as one, Xavier; tokens normal; positions the sine-cosine."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
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
    """ViT as MAE initialises it."""

    embeddings_class = MAEEmbeddings


class MAEForPreTraining(MAEPreTrainedModel):
    """A masked autoencoder over ViT; its encoder computes the visible patches alone."""

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
        """Paint the patches that were removed.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            noise: (batch, patches); the patches of largest noise are removed. None draws it.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        grid = self.model.embeddings.grid(*pixel_values.shape[-2:])
        if noise is None:
            noise = torch.rand(len(pixel_values), math.prod(grid), device=pixel_values.device)
        elif noise.shape != (len(pixel_values), math.prod(grid)):
            raise ValueError(
                f"noise must be (batch, patches) = {(len(pixel_values), math.prod(grid))}, got {tuple(noise.shape)}"
            )
        masking = random_mask(noise, self.config.mask_ratio)
        outputs = self.model(pixel_values, kept_patches=masking.kept, **kwargs)
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
        """Patches (batch, rows * columns, values) to images (batch, num_channels, height, width).

        They are pixels as the image processor normalises them or, with `config.normalize_targets`, patches of mean 0
        and variance 1.

        Args:
            grid: (rows, columns) of patches.
        """
        return join_patches(logits, grid, pair(self.config.patch_size))

    def export(self) -> ViTModel:
        """The encoder as a plain `ViTModel` with weights of its own; its positions can be trained."""
        encoder = ViTModel(self.config.encoder_config())
        encoder.load_state_dict(self.model.state_dict())
        return encoder.train(self.training)


__all__ = ["MAEEncoder", "MAEForPreTraining", "MAEPreTrainedModel"]
