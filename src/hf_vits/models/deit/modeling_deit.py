"""DeiT: data-efficient image transformers, plain and distilled, DeiT III and parallel ViTs.

Touvron et al., arXiv 2012.12877 (DeiT), 2204.07118 (DeiT III), 2203.09795 (parallel layers, hMLP stem);
facebookresearch/deit (models.py, models_v2.py).
"""

import torch
from torch import nn
from transformers import initialization as init

from ...configuration import pair
from ...layers.locality import LocalityTransformerLayer
from ...layers.patch import PatchEmbedding, patch_grid
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
    """ViT's embeddings with an optional distillation token, the second prefix token, and an optional hMLP stem."""

    def make_patch_embedding(self, config: DeiTConfig) -> nn.Module:
        if config.stem == "hierarchical_mlp":
            return HierarchicalMLPStem(config.num_channels, config.hidden_size)
        if config.ignore_border:
            return WholePatchEmbedding(config.num_channels, config.hidden_size, pair(config.patch_size))
        return super().make_patch_embedding(config)


class DeiTModel(ViTModel):
    """DeiT encoder. `pooler_output` is the class token; the distillation token is `last_hidden_state[:, 1]`.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    config_class = DeiTConfig
    embeddings_class = DeiTEmbeddings
    _no_split_modules = [*ViTModel._no_split_modules, "LocalityTransformerLayer"]

    @staticmethod
    def layer_class(config: DeiTConfig, drop_path_rate: float) -> nn.Module:
        if config.feed_forward == "locality":
            return LocalityTransformerLayer(config, drop_path_rate)
        layer = TransformerLayer if config.num_parallel_branches == 1 else ParallelTransformerLayer
        return layer(config, drop_path_rate)

    def layer_arguments(self, pixel_values: torch.Tensor) -> dict:
        if self.config.feed_forward == "mlp":
            return {}
        return {"grid": self.embeddings.grid(*pixel_values.shape[-2:])}

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as PyTorch originals do: all weights and tokens truncated normal, the mask token zero."""
        if isinstance(module, DeiTEmbeddings):
            if module.prefix_tokens is not None:
                init.trunc_normal_(module.prefix_tokens, std=self.config.initializer_range)
            if module.mask_token is not None:
                init.zeros_(module.mask_token)
        else:
            VitsPreTrainedModel._init_weights(self, module)  # ViT's own initialisation, which this skips, is Flax's


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
