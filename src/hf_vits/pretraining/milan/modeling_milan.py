"""MILAN: an encoder sees a quarter of the patches, and a decoder predicts the features of a trained network.

Hou et al., "MILAN: Masked Image Pretraining on Language Assisted Representation", arXiv 2208.06049; zejiangh/MILAN
(models_milan.py; models_mae.py for the ordinary decoder).
"""

import copy
import json
import math
from functools import cache
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from ...configuration import pair
from ...layers.attention import Attention, attend
from ...layers.patch import check_pixel_values, cut_patches, square_grid, take_tokens
from ...layers.position import FrozenPositionEmbedding
from ...layers.transformer import TransformerLayer
from ...models.vit.configuration_vit import ViTConfig
from ...models.vit.modeling_vit import ViTModel
from ...objectives.masks import RandomMask, mask_by_order, semantic_order
from ...objectives.reconstruction import FeatureRegression, MaskedPatchRegression
from ..dino.configuration_dino import as_backbone_config
from ..mae.modeling_mae import MAEEncoder, MAEOutput, MAEPreTrainedModel
from ..method import Column, PretrainingMethod
from .configuration_milan import MILANConfig
from .target_milan import describe, first_prefix, make_target


class PromptingAttention(Attention):
    """Attention of masked patches to visible and masked ones."""

    def __init__(
        self,
        config,
        hidden_size: int,
        num_heads: int,
        qkv_bias: bool = True,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
    ):
        super().__init__(config, (hidden_size // num_heads) ** -0.5, attention_dropout)
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, hidden_size, bias=qkv_bias)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size, bias=qkv_bias)
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(projection_dropout)

    def forward(
        self, hidden_states: torch.Tensor, prompts: torch.Tensor, num_queries: int | None = None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute attention.

        Args:
            hidden_states: masked patches (batch, masked, hidden_size), normalised.
            prompts: class token and visible patches (batch, prefix + visible, hidden_size), not normalised.

        Returns:
            (batch, masked, hidden_size), and the probabilities, None unless the implementation is eager.
        """
        query = self.query(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        # The order of the keys does not matter, so that the patches need not be put in place.
        tokens = self.key_value(torch.cat([prompts, hidden_states], dim=1))
        key, value = tokens.unflatten(-1, (2, self.num_heads, -1)).unbind(2)
        attended, probabilities = attend(self, query, key.transpose(1, 2), value.transpose(1, 2), **kwargs)
        return self.dropout(self.projection(attended.flatten(2))), probabilities


class PromptingLayer(TransformerLayer):
    """Pre-norm layer that updates masked patches; visible ones are only keys and values."""

    attention_class = PromptingAttention

    def forward(self, hidden_states: torch.Tensor, prompts: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map masked patches (batch, masked, hidden_size) to the same shape; `prompts` as in `PromptingAttention`."""
        return super().forward(hidden_states, prompts=prompts, **kwargs)


class MILANDecoder(nn.Module):
    """Ordinary decoder: visible patches and mask tokens pass all layers together, as in MAE.

    Args:
        grid: (rows, columns) of patches of the position table.
    """

    layer_class = TransformerLayer

    def __init__(self, config: MILANConfig, grid: tuple[int, int]):
        super().__init__()
        sizes, backbone = config.decoder_config(), config.backbone_config
        hidden_size = sizes.hidden_size
        self.num_prefix_tokens = min(backbone.num_prefix_tokens, 1)
        self.embedding = nn.Linear(encoder_width(backbone), hidden_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.position_embedding = FrozenPositionEmbedding(grid, hidden_size, self.num_prefix_tokens)
        self.layers = nn.ModuleList(self.layer_class(sizes) for _ in range(sizes.num_hidden_layers))
        layers: Any = self.layers
        for layer in layers:
            layer.attention.config = config  # the model's, so that its attention implementation applies
        self.norm = nn.LayerNorm(hidden_size, eps=sizes.layer_norm_eps)
        self.prediction = nn.Linear(hidden_size, config.output_size)

    def forward(self, visible: torch.Tensor, masking: RandomMask, grid: tuple[int, int], **kwargs) -> torch.Tensor:
        """Map (batch, prefix + visible patches, channels) to (batch, prefix + patches, output_size)."""
        count = self.num_prefix_tokens
        tokens, positions = self.embedding(visible), self.position_embedding(grid)
        prefix, kept = tokens[:, :count] + positions[:, :count], tokens[:, count:]
        positions = positions[:, count:].expand(len(tokens), -1, -1)
        kept = kept + take_tokens(positions, masking.kept)
        removed = self.mask_token.to(tokens.dtype) + take_tokens(positions, masking.removed)
        decoded = self.decode(prefix, kept, removed.to(kept.dtype), **kwargs)
        # The last layers act on each token alone, and so before the patches are put in place.
        predicted = self.prediction(self.norm(decoded))
        return torch.cat([predicted[:, :count], take_tokens(predicted[:, count:], masking.restore)], dim=1)

    def decode(self, prefix: torch.Tensor, kept: torch.Tensor, removed: torch.Tensor, **kwargs) -> torch.Tensor:
        """Return prefix, visible and masked tokens (batch, tokens, hidden_size) after all layers, in this order."""
        tokens = torch.cat([prefix, kept, removed], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, **kwargs)
        return tokens


class PromptingDecoder(MILANDecoder):
    """Prompting decoder (section 3.2): the encoder's output stays as it is, and only masked patches are updated."""

    layer_class = PromptingLayer

    def decode(self, prefix: torch.Tensor, kept: torch.Tensor, removed: torch.Tensor, **kwargs) -> torch.Tensor:
        prompts = torch.cat([prefix, kept], dim=1)
        for layer in self.layers:
            removed = layer(removed, prompts, **kwargs)
        return torch.cat([prompts, removed], dim=1)


DECODERS = {"ordinary": MILANDecoder, "prompting": PromptingDecoder}


class MILANPreTrainedModel(MAEPreTrainedModel):
    config_class = MILANConfig
    base_model_prefix = ""
    # The encoder and the target network can be any models; a self-contained code bundle would need their code as well.
    needs_package = True

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as MAE."""
        if isinstance(module, MILANDecoder):
            init.normal_(module.mask_token, std=0.02)
        else:
            super()._init_weights(module)


class MILANForPreTraining(PretrainingMethod, MILANPreTrainedModel):
    """MILAN over any encoder.

    `encoder` is trained, `decoder` only serves the training, and `target_network` is frozen; it is saved with the
    model, so that training can go on.
    """

    def __init__(self, config: MILANConfig):
        super().__init__(config)
        backbone_config = config.backbone_config
        self.encoder = make_encoder(backbone_config)
        self.decoder = DECODERS[config.decoder_type](
            config, patch_grid_of(self.encoder, pair(backbone_config.image_size))
        )
        self.target_network = make_target(config)
        is_pixels = config.target == "pixels"
        self.objective = MaskedPatchRegression(config.normalize_targets) if is_pixels else FeatureRegression()
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        # Loading creates new parameters, which require gradients.
        network = (loaded[0] if isinstance(loaded, tuple) else loaded).target_network
        if network is not None:
            network.requires_grad_(False)
        return loaded

    @staticmethod
    def target_fields(network: PreTrainedModel) -> dict[str, Any]:
        """Return the configuration fields of a model whose target is a trained network."""
        return {
            "target_config": network.config.to_dict(),
            "project_target": hasattr(network, "visual_projection"),
        }

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def train(self, mode: bool = True) -> "MILANForPreTraining":
        """Set the mode of encoder and decoder; the target network stays in evaluation mode."""
        super().train(mode)
        if self.target_network is not None:
            self.target_network.eval()
        return self

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        target_features: torch.Tensor | None = None,
        importance: torch.Tensor | None = None,
        order: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MAEOutput:
        """Predict the target of a batch.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            target_features: (batch, class token + patches, target_size) or without class token; None for those of the
                target network.
            importance: (batch, patches), weights with which visible patches are drawn; None for the attention of the
                target network.
            order: (batch, patches), a permutation of the patches of each image, the visible ones first; None to draw
                it.

        Returns:
            `MAEOutput`, whose logits (batch, prefix + patches, target_size) are of all tokens; of pixels, they are
            (batch, patches, values of a patch), and the loss is over the masked patches.
        """
        config = self.config
        check_pixel_values(pixel_values, config.backbone_config.num_channels)
        grid = patch_grid_of(self.encoder, tuple(pixel_values.shape[-2:]))
        needs_importance = order is None and importance is None and config.masking == "semantic"
        needs_features = config.target == "features" and target_features is None
        if needs_importance or needs_features:
            features, attention = self.look_at(pixel_values, grid, needs_importance)
            target_features = features if needs_features else target_features
            importance = attention if needs_importance else importance
        masking = self.mask(order, importance, pixel_values, math.prod(grid))
        outputs, visible = self.encode(pixel_values, masking, grid, **kwargs)
        logits = self.decoder(visible, masking, grid)
        count = self.decoder.num_prefix_tokens
        if config.target == "pixels":
            logits = logits[:, count:]
            patches = cut_patches(pixel_values, pair(config.backbone_config.patch_size))
            loss, _ = self.objective(logits, patches, masking.mask)
        else:
            loss, _ = self.objective(*aligned(logits, target_features, math.prod(grid)))
        return MAEOutput(
            loss=loss,
            logits=logits,
            mask=masking.mask,
            ids_restore=masking.restore,
            last_hidden_state=visible,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def look_at(
        self, pixel_values: torch.Tensor, grid: tuple[int, int], attention: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the target network's features and, if needed, its attention; see `target_milan.describe`."""
        if self.target_network is None:
            raise ValueError(
                "without a target network (config.target_config=None) target_features must come with every batch, and "
                'importance or order with it unless masking="random"'
            )
        return describe(self.target_network, pixel_values, grid, attention)

    def mask(
        self, order: torch.Tensor | None, importance: torch.Tensor | None, pixel_values: torch.Tensor, count: int
    ) -> RandomMask:
        """Return the masks of a batch of images with `count` patches."""
        expected = (len(pixel_values), count)
        for name, given in {"order": order, "importance": importance}.items():
            if given is not None and given.shape != expected:
                raise ValueError(f"{name} must be (batch, patches) = {expected}, got {tuple(given.shape)}")
        if order is None and self.config.masking == "semantic":
            order = semantic_order(importance)
        elif order is None:
            order = torch.rand(expected, device=pixel_values.device).argsort(dim=1)
        return mask_by_order(order, self.config.mask_ratio)

    def encode(
        self, pixel_values: torch.Tensor, masking: RandomMask, grid: tuple[int, int], **kwargs
    ) -> tuple[Any, torch.Tensor]:
        """Return the encoder's output, and prefix token and visible patches (batch, prefix + visible, channels)."""
        count = self.config.backbone_config.num_prefix_tokens
        if leaves_out_patches(self.encoder):
            outputs = self.encoder(pixel_values, kept_patches=masking.kept, return_dict=True, **kwargs)
            return outputs, first_prefix(outputs.last_hidden_state, count)
        mask = masking.mask.unflatten(1, grid)[:, None].to(pixel_values.dtype)
        hidden = nn.functional.interpolate(mask, pixel_values.shape[-2:], mode="nearest")
        outputs = self.encoder(pixel_values * (1 - hidden), return_dict=True, **kwargs)
        tokens = outputs.last_hidden_state
        visible = take_tokens(tokens[:, count:], masking.kept)
        return outputs, torch.cat([tokens[:, : min(count, 1)], visible], dim=1)

    def picture(self, pixel_values: torch.Tensor) -> list[Column]:
        """Return the attention that guides the masks, if it does, and the patches that the encoder sees."""
        grid = patch_grid_of(self.encoder, tuple(pixel_values.shape[-2:]))
        generator, columns = torch.Generator().manual_seed(0), []
        if self.config.masking == "semantic" and self.target_network is not None:
            _, importance = self.look_at(pixel_values, grid, attention=True)
            columns.append(Column("attention of the target", importance.cpu().unflatten(1, grid), is_map=True))
            order = semantic_order(importance.cpu(), generator)
        else:
            order = torch.rand(len(pixel_values), math.prod(grid), generator=generator).argsort(dim=1)
        mask = mask_by_order(order, self.config.mask_ratio).mask
        seen = f"{1 - self.config.mask_ratio:.0%} seen"
        return [*columns, Column(seen, pixel_values, hidden=mask.to(pixel_values.device).unflatten(1, grid))]

    def export(self) -> PreTrainedModel:
        """Return a copy of the encoder as a plain model, whose positions can be trained."""
        encoder = AutoModel.from_config(copy.deepcopy(self.config.backbone_config))
        known = self.encoder.state_dict()
        encoder.load_state_dict({key: known.get(key, value) for key, value in encoder.state_dict().items()})
        return encoder.train(self.training)


def make_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Return the encoder of a configuration: a ViT has MAE's initialisation and fixed positions."""
    learned = getattr(config, "position_embedding_type", None) == "learned"
    if type(config) is ViTConfig and learned and config.position_embedding_prefix and config.stem_depths is None:
        return MAEEncoder._from_config(config, add_pooling_layer=False)
    return AutoModel.from_config(config)


def encoder_width(config: PreTrainedConfig) -> int:
    """Return the channels of an encoder's last hidden state."""
    sizes = getattr(config, "hidden_sizes", None)
    return sizes[-1] if sizes else config.hidden_size


def leaves_out_patches(encoder: PreTrainedModel) -> bool:
    """Return whether an encoder can compute the visible patches alone: a ViT whose layers know no grid."""
    return isinstance(encoder, ViTModel) and getattr(encoder.config, "feed_forward", "mlp") == "mlp"


def patch_grid_of(encoder: PreTrainedModel, size: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) of an encoder's patch tokens for images of `size` (height, width)."""
    if isinstance(encoder, ViTModel):
        return encoder.embeddings.grid(*size)
    return square_grid(num_patch_tokens(encoder.config.to_json_string(use_diff=False), size), size)


@cache
def num_patch_tokens(config: str, size: tuple[int, int]) -> int:
    """Return the number of patch tokens of an encoder, by its configuration as JSON; it sees one empty image."""
    backbone_config = as_backbone_config(json.loads(config))
    with torch.device("cpu"), torch.no_grad(), init.no_init_weights():
        encoder = AutoModel.from_config(backbone_config).eval()
        tokens = encoder(torch.zeros(1, backbone_config.num_channels, *size), return_dict=True).last_hidden_state
    return tokens.shape[1] - backbone_config.num_prefix_tokens


def aligned(logits: torch.Tensor, features: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return predictions and targets of the same tokens: patches, and the class token if both have one.

    Args:
        count: number of patches.
    """
    if features.ndim != 3 or features.shape[1] - count not in (0, 1) or len(features) != len(logits):
        raise ValueError(
            f"target_features must be (batch, class token + patches, channels) = {(len(logits), count + 1)} and "
            f"channels, or without the class token, got {tuple(features.shape)}"
        )
    if logits.shape[1] == features.shape[1]:
        return logits, features
    return logits[:, -count:], features[:, -count:]


__all__ = ["MILANForPreTraining", "MILANPreTrainedModel"]
