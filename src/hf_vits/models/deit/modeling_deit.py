"""DeiT: data-efficient image transformers, plain and distilled, DeiT III and parallel ViTs.

Touvron et al., arXiv 2012.12877 (DeiT), 2204.07118 (DeiT III), 2203.09795 (parallel layers, hMLP stem);
facebookresearch/deit (models.py, models_v2.py).
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from ...layers.locality import LocalityTransformerLayer
from ...layers.stems import HierarchicalMLPStem
from ...layers.transformer import ParallelTransformerLayer, TransformerLayer
from ...modeling import (
    ClassifierOutput,
    IsotropicBackbone,
    VitsPreTrainedModel,
    recorded_states,
)
from ..vit.modeling_vit import PrefixClassification, ViTEmbeddings, ViTModel
from .configuration_deit import DeiTConfig


class DeiTEmbeddings(ViTEmbeddings):
    """ViT's embeddings; the distillation token is the second prefix token, the stem may be convolutional."""

    def make_patch_embedding(self, config: DeiTConfig) -> nn.Module:
        if config.stem == "hierarchical_mlp":
            return HierarchicalMLPStem(config.num_channels, config.hidden_size)
        return super().make_patch_embedding(config)


class DeiTPreTrainedModel(VitsPreTrainedModel):
    config_class = DeiTConfig
    _no_split_modules = [*VitsPreTrainedModel._no_split_modules, "LocalityTransformerLayer"]

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, DeiTEmbeddings):
            if module.prefix_tokens is not None:
                init.trunc_normal_(module.prefix_tokens, std=self.config.initializer_range)
            if module.mask_token is not None:
                init.zeros_(module.mask_token)
        else:  # not `super`, which for `DeiTModel` is ViT's
            VitsPreTrainedModel._init_weights(self, module)


class DeiTModel(DeiTPreTrainedModel, ViTModel):
    """DeiT encoder. `pooler_output` is the class token; the distillation token is `last_hidden_state[:, 1]`.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    embeddings_class = DeiTEmbeddings

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


@dataclass
class DeiTClassifierOutput(ClassifierOutput):
    """Output of `DeiTForImageClassification`.

    logits: (batch, num_labels); of a distilled model the mean of the two heads'.
    cls_logits, distillation_logits: (batch, num_labels) of each head of a distilled model.
    """

    cls_logits: torch.FloatTensor | None = None
    distillation_logits: torch.FloatTensor | None = None


class DeiTForImageClassification(PrefixClassification, DeiTPreTrainedModel):
    """DeiT with a linear classifier on the class token and, when distilled, another on the distillation token.

    The heads of a distilled model are averaged (models.py, `DistilledVisionTransformer.forward`), in training too;
    a distillation loss reads `cls_logits` and `distillation_logits`.
    """

    model_class = DeiTModel

    def __init__(self, config: DeiTConfig):
        super().__init__(config)
        if config.distilled and config.distillation_head:
            self.distillation_classifier = nn.Linear(config.pooler_size, config.num_labels)
            self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> DeiTClassifierOutput:
        """Classify images; arguments as in `ForImageClassification.forward`."""
        if not (self.config.distilled and self.config.distillation_head):
            return DeiTClassifierOutput(**super().forward(pixel_values, labels, **kwargs | {"return_dict": True}))
        outputs = self.encode(pixel_values, **kwargs)
        cls_logits = self.classifier(outputs.pooler_output)
        distillation_logits = self.distillation_classifier(
            self.model.pooler.represent(outputs.last_hidden_state[:, 1])
        )
        logits = (cls_logits + distillation_logits) / 2
        loss = None if labels is None else self.loss_function(labels, logits, self.config, **kwargs)
        return DeiTClassifierOutput(
            loss=loss,
            logits=logits,
            cls_logits=cls_logits,
            distillation_logits=distillation_logits,
            **recorded_states(outputs),
        )


class DeiTBackbone(IsotropicBackbone, DeiTPreTrainedModel):
    """DeiT that returns feature maps, for detection and segmentation heads."""

    model_class = DeiTModel


__all__ = ["DeiTBackbone", "DeiTForImageClassification", "DeiTModel", "DeiTPreTrainedModel"]
