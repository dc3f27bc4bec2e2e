"""ResNet with a stride for each stage, so that a map for dense correspondence keeps its resolution.

He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385; torchvision (models/resnet.py), whose
weights it takes; Alxead/SFC (models/resnet.py), whose initialisation it has.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.convolution import ConvNorm, to_tokens
from ...layers.patch import check_pixel_values
from ...layers.stages import Stage
from ...modeling import (
    EncoderOutput,
    ForImageClassification,
    HierarchicalBackbone,
    VitsHierarchicalPreTrainedModel,
    init_as_torch,
)
from .configuration_res_net import ResNetConfig


class ResNetEmbeddings(nn.Module):
    """Stem: 7x7 convolution of stride 2, batch norm, activation, then max pooling of stride 2."""

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.convolution = ConvNorm(
            config.num_channels,
            config.stem_hidden_size,
            7,
            2,
            activation=config.hidden_act,
            padding_mode=config.padding_mode,
        )
        self.pooling = nn.MaxPool2d(3, stride=2, padding=1)
        # A map of one row has none to mirror.
        self.strides = config.strides
        self.smallest_side = 1 if config.padding_mode == "zeros" else 4 * math.prod(config.strides) + 1

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, stem_hidden_size, height / 4, width / 4), rounded up."""
        check_pixel_values(pixel_values, self.num_channels)
        height, width = pixel_values.shape[-2:]
        if min(height, width) < self.smallest_side:
            raise ValueError(
                f"an image of {height}x{width} pixels is too small: padding_mode='reflect' mirrors a row within the "
                f"last map, which with strides={self.strides} needs height and width of at least {self.smallest_side}"
            )
        first: Any = self.convolution[0]
        return self.pooling(self.convolution(pixel_values.to(first.weight.dtype)))


class ResNetLayer(GradientCheckpointingLayer):
    """Residual layer: activation(convolutions(x) + shortcut(x)).

    Args:
        in_channels: channels of the input.
        stage: index of the stage, from 0.
        stride: of the layer.
    """

    def __init__(self, config: ResNetConfig, in_channels: int, stage: int, stride: int):
        super().__init__()
        out_channels, act = config.hidden_sizes[stage], config.hidden_act
        padded = {"padding_mode": config.padding_mode}
        if config.layer_type == "basic":
            convolutions = [
                ConvNorm(in_channels, out_channels, 3, stride, activation=act, **padded),
                ConvNorm(out_channels, out_channels, 3, **padded),
            ]
        else:
            width = config.bottleneck_size(stage)
            convolutions = [
                ConvNorm(in_channels, width, 1, activation=act),
                ConvNorm(width, width, 3, stride, groups=config.groups, activation=act, **padded),
                ConvNorm(width, out_channels, 1),
            ]
        self.convolutions = nn.Sequential(*convolutions)
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = ConvNorm(in_channels, out_channels, 1, stride) if changes else None
        self.activation = ACT2FN[act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride)."""
        shortcut = hidden_states if self.shortcut is None else self.shortcut(hidden_states)
        return self.activation(self.convolutions(hidden_states) + shortcut)


class ResNetStage(Stage):
    """Residual layers, the first with the stage's stride."""

    def __init__(self, config: ResNetConfig, stage: int):
        super().__init__()
        before, after = ([config.stem_size, *config.hidden_sizes][index] for index in (stage, stage + 1))
        sizes = [(before, config.strides[stage]), *[(after, 1)] * (config.depths[stage] - 1)]
        self.layers = nn.ModuleList(ResNetLayer(config, channels, stage, stride) for channels, stride in sizes)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to the stage's feature map."""
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class ResNetPreTrainedModel(VitsHierarchicalPreTrainedModel):
    """Base class of ResNet's models."""

    config_class = ResNetConfig
    _no_split_modules = ["ResNetLayer"]

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise convolutions Kaiming normal (fan-out), and residual branches so that they add nothing at first.

        The classifier is initialised as PyTorch's linear layers.
        """
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, ResNetLayer):
            last: Any = module.convolutions[-1]
            init.zeros_(last[1].weight)
        elif isinstance(module, nn.Linear):
            init_as_torch(module)
        else:
            super()._init_weights(module)


class ResNetModel(ResNetPreTrainedModel):
    """ResNet encoder. `pooler_output` is the mean of the last feature map.

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    _input_embed_layer = "convolution"

    def __init__(self, config: ResNetConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = ResNetEmbeddings(config)
        self.stages = nn.ModuleList(ResNetStage(config, stage) for stage in range(len(config.depths)))
        self.add_pooling_layer = add_pooling_layer
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width) of any size, normalised by the image processor.
        """
        hidden_states = self.embeddings(pixel_values)
        for stage in self.stages:
            hidden_states = stage(hidden_states)
        pooled = hidden_states.mean(dim=(2, 3)) if self.add_pooling_layer else None
        return EncoderOutput(last_hidden_state=to_tokens(hidden_states), pooler_output=pooled)


class ResNetForImageClassification(ForImageClassification, ResNetPreTrainedModel):
    """ResNet with a linear classifier on the mean of its last feature map."""

    model_class = ResNetModel


class ResNetBackbone(HierarchicalBackbone, ResNetPreTrainedModel):
    """ResNet that returns the feature map of each stage, for dense tasks."""

    model_class = ResNetModel


__all__ = ["ResNetBackbone", "ResNetForImageClassification", "ResNetModel", "ResNetPreTrainedModel"]
