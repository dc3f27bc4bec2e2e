"""DeiT: data-efficient image transformers, plain and distilled, DeiT III and parallel ViTs.

Touvron et al., arXiv 2012.12877 (DeiT), 2204.07118 (DeiT III), 2203.09795 (parallel layers, hMLP stem);
facebookresearch/deit (models.py, models_v2.py).
"""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from ...configuration import pair
from ...layers.attention import SelfAttention
from ...layers.locality import LocalityTransformerLayer
from ...layers.patch import PatchEmbedding, patch_grid
from ...layers.relative_position import ClassTokenPositionBias
from ...layers.stems import HierarchicalMLPStem
from ...layers.transformer import ParallelTransformerLayer, TransformerLayer
from ...modeling import DistilledImageClassification, EncoderOutput, IsotropicBackbone, VitsPreTrainedModel
from ..vit.modeling_vit import PrefixClassification, ViTEmbeddings, ViTModel
from .configuration_deit import DeiTConfig


class WholePatchEmbedding(PatchEmbedding):
    """Patch embedding that ignores the pixels beyond the last whole patch, at the bottom and on the right."""

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in tokens for a size in pixels; ValueError where not even one patch fits."""
        rows, columns = self.patch_size
        return patch_grid(height - height % rows, width - width % columns, self.patch_size)


class DeiTEmbeddings(ViTEmbeddings):
    """ViT's embeddings with an optional distillation token, the second prefix token, and an optional hMLP stem.

    It also holds the relative position bias that all layers share, if there is one.
    """

    def __init__(self, config: DeiTConfig):
        super().__init__(config)
        self.position_bias = position_bias(config) if config.use_shared_relative_position_bias else None

    def make_patch_embedding(self, config: DeiTConfig) -> nn.Module:
        if config.stem == "hierarchical_mlp":
            return HierarchicalMLPStem(config.num_channels, config.hidden_size)
        if config.ignore_border:
            return WholePatchEmbedding(config.num_channels, config.hidden_size, pair(config.patch_size))
        return super().make_patch_embedding(config)


def position_bias(config: DeiTConfig) -> ClassTokenPositionBias:
    """Make the relative position bias for images of `config.image_size`."""
    height, width = (
        side // patch for side, patch in zip(pair(config.image_size), pair(config.patch_size), strict=True)
    )
    return ClassTokenPositionBias((height, width), config.num_attention_heads)


class RelativePositionAttention(SelfAttention):
    """Self-attention with BEiT's relative position bias, the layer's own, the shared one, or the sum of both."""

    def __init__(self, config: DeiTConfig, *sizes, **options):
        super().__init__(config, *sizes, **options)
        self.position_bias = position_bias(config) if config.use_relative_position_bias else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        shared_bias: torch.Tensor | None = None,
        num_queries: int | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute self-attention as `SelfAttention`.

        Args:
            shared_bias: (1, heads, tokens, tokens), or None.
        """
        bias: Any = 0 if shared_bias is None else shared_bias
        bias = bias if self.position_bias is None else bias + self.position_bias()
        if bias.shape[-1] != hidden_states.shape[1]:
            raise ValueError(
                "use_relative_position_bias and use_shared_relative_position_bias are for the "
                f"{bias.shape[-1]} tokens of a whole image of image_size={self.config.image_size}, got "
                f"{hidden_states.shape[1]} tokens"
            )
        return super().forward(hidden_states, bias[:, :, :num_queries], num_queries, **kwargs)


class RelativePositionLayer(TransformerLayer):
    """Pre-norm transformer layer whose attention has relative position biases."""

    attention_class = RelativePositionAttention


class DeiTModel(ViTModel):
    """DeiT encoder. `pooler_output` is the class token; the distillation token is `last_hidden_state[:, 1]`.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    config_class = DeiTConfig
    embeddings_class = DeiTEmbeddings
    _no_split_modules = [*ViTModel._no_split_modules, "LocalityTransformerLayer", "RelativePositionLayer"]

    @staticmethod
    def layer_class(config: DeiTConfig, drop_path_rate: float) -> nn.Module:
        if config.feed_forward == "locality":
            return LocalityTransformerLayer(config, drop_path_rate)
        if config.use_relative_position_bias or config.use_shared_relative_position_bias:
            return RelativePositionLayer(config, drop_path_rate)
        layer = TransformerLayer if config.num_parallel_branches == 1 else ParallelTransformerLayer
        return layer(config, drop_path_rate)

    def layer_arguments(self, pixel_values: torch.Tensor) -> dict:
        shared: Any = self.embeddings.position_bias
        if shared is not None:
            return {"shared_bias": shared()}
        if self.config.feed_forward == "mlp":
            return {}
        return {"grid": self.embeddings.grid(*pixel_values.shape[-2:])}

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as PyTorch originals do: weights and tokens truncated normal, mask token and biases zero."""
        if isinstance(module, DeiTEmbeddings):
            if module.prefix_tokens is not None:
                init.trunc_normal_(module.prefix_tokens, std=self.config.initializer_range)
            if module.mask_token is not None:
                init.zeros_(module.mask_token)
        else:
            VitsPreTrainedModel._init_weights(self, module)  # ViT's own initialisation, which this skips, is Flax's
            if isinstance(module, ClassTokenPositionBias):
                init.zeros_(module.table)


class DeiTPreTrainedModel(VitsPreTrainedModel):
    """Base class of the models that hold a `DeiTModel`."""

    config_class = DeiTConfig


class DeiTForImageClassification(PrefixClassification, DistilledImageClassification, DeiTPreTrainedModel):
    """DeiT with a linear classifier on the class token and, if distilled, another on the distillation token.

    Their logits are averaged (models.py, `DistilledVisionTransformer.forward`), also in training.
    """

    model_class = DeiTModel

    @staticmethod
    def has_two_classifiers(config: DeiTConfig) -> bool:
        return config.distilled and config.distillation_head

    def distillation_features(self, outputs: EncoderOutput) -> torch.Tensor:
        return self.model.pooler.represent(outputs.last_hidden_state[:, 1])


class DeiTBackbone(IsotropicBackbone, DeiTPreTrainedModel):
    """DeiT that returns feature maps, for detection and segmentation heads."""

    model_class = DeiTModel


__all__ = ["DeiTBackbone", "DeiTForImageClassification", "DeiTModel", "DeiTPreTrainedModel"]
