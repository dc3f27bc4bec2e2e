"""Linear probe: a linear classifier on the features of a frozen backbone.

He et al., "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377, appendix A.1; facebookresearch/mae
(main_linprobe.py). Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", arXiv 2104.14294,
section 4.1; facebookresearch/dino (eval_linear.py). Hierarchical encoders: bytedance/ibot
(models/swin_transformer.py) and microsoft/esvit (eval_linear.py).
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from ...layers.convolution import to_tokens
from ...modeling import ClassifierOutput, classification_loss
from ..modeling_probe import ProbeModel
from ..self_distillation import pooled_features
from .configuration_linear_probe import LinearProbeConfig, layer_widths

EPSILON = 1e-6  # of the batch norm


def layer_features(
    backbone: Any, pixel_values: torch.Tensor, num_layers: int = 1, patch_mean: bool = False
) -> torch.Tensor:
    """Return the concatenated features of images from a backbone's last layers.

    The feature of a layer is its class token or, without one, the mean of its tokens, after the final norm. In a
    hierarchical encoder, the final norm applies only to layers of the last stage.

    Args:
        backbone: a plain encoder.
        pixel_values: (batch, num_channels, height, width).
        num_layers: number of layers; with 1, the feature is `pooler_output`.
        patch_mean: whether the mean of the last layer's patches is appended.

    Returns:
        (batch, channels).

    Raises:
        ValueError: the backbone has fewer layers, or does not record their outputs.
    """
    if num_layers == 1 and not patch_mean:
        return pooled_features(backbone, pixel_values)
    layers, in_last_stage = layer_tokens(backbone, pixel_values)
    if num_layers > len(layers):
        raise ValueError(f"num_layers must be at most the backbone's {len(layers)} layers, got {num_layers}")
    num_prefix_tokens = backbone.config.num_prefix_tokens
    features = []
    for place, tokens in enumerate(layers[-num_layers:], start=-num_layers):
        is_last_stage = place >= -in_last_stage
        if is_last_stage:
            tokens = backbone.norm(tokens)
        has_class_token = is_last_stage and num_prefix_tokens
        features.append(tokens[:, 0] if has_class_token else tokens.mean(dim=1))
    if patch_mean:
        features.append(tokens[:, num_prefix_tokens:].mean(dim=1))
    return torch.cat(features, dim=-1)


def layer_tokens(backbone: PreTrainedModel, pixel_values: torch.Tensor) -> tuple[list[torch.Tensor], int]:
    """Return each layer's output (batch, tokens, channels), and the number of layers in the last stage.

    In a hierarchical encoder only the last stage has a class token. Other encoders count as a single stage.
    """
    stages = getattr(backbone, "stages", None)
    if stages is None:
        states = backbone(pixel_values, return_dict=True, output_hidden_states=True).hidden_states[1:]
        in_last_stage = len(states)
    else:
        recorded = "layer_states" in (getattr(backbone, "_can_record_outputs", None) or ())
        states = backbone(pixel_values, return_dict=True, output_layer_states=True).layer_states if recorded else ()
        in_last_stage = len(getattr(stages[-1], "layers", ()))
    tokens = [to_tokens(state) if state.ndim == 4 else state for state in states]
    widths = [layer.shape[-1] for layer in tokens]
    if getattr(backbone, "norm", None) is None or widths != layer_widths(backbone.config):
        raise ValueError(
            f"{type(backbone).__name__} does not record the outputs of its layers: use num_layers=1 without "
            "patch_mean, which reads pooler_output"
        )
    return tokens, in_last_stage


class LinearProbeForImageClassification(ProbeModel):
    """Image classifier: a linear layer on the features of a frozen backbone."""

    config_class = LinearProbeConfig

    def __init__(self, config: LinearProbeConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.backbone = AutoModel.from_config(config.backbone_config)
        self.norm = nn.Identity()
        if config.batch_norm:
            self.norm = nn.BatchNorm1d(config.pooler_size, eps=EPSILON, affine=False)
        self.classifier = nn.Linear(config.pooler_size, config.num_labels)
        self.post_init()
        self.freeze()

    @torch.no_grad()
    def _init_weights(self, module):
        if module is self.classifier:
            init.normal_(module.weight, std=0.01)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor | None = None, labels: torch.Tensor | None = None, **kwargs
    ) -> ClassifierOutput:
        """Classify images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            labels: (batch,) class indices, or (batch, num_labels) for regression and multi-label problems.
        """
        with torch.no_grad():
            features = layer_features(self.backbone, pixel_values, self.config.num_layers, self.config.patch_mean)
        logits = self.classifier(self.norm(features))
        loss = None if labels is None else classification_loss(self, labels, logits, **kwargs)
        return ClassifierOutput(loss=loss, logits=logits)


__all__ = ["LinearProbeForImageClassification", "layer_features"]
