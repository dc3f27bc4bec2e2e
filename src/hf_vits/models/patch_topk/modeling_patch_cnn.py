"""Convolutional networks of differentiable patch selection: features of patches, and baselines on whole images.

google-research/google-research, ptopk_patch_selection/lib/models.py.
"""

from collections import OrderedDict

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...configuration import pair
from ...layers.convolution import to_tokens
from ...layers.patch import check_pixel_values
from ...layers.patch_extraction import append_positions
from ...layers.stems import pad_same
from ...modeling import EncoderOutput, ForImageClassification, VitsPreTrainedModel, init_as_flax
from .configuration_patch_cnn import PatchCnnConfig

EPSILON = 1e-5  # of all batch norms


class PadSame(nn.Module):
    """Padding before a convolution or pooling, as TensorFlow's SAME has it: the odd pixel is below or to the right."""

    def __init__(self, kernel_size: int, stride: int, value: float = 0.0):
        super().__init__()
        self.kernel_size, self.stride, self.value = kernel_size, stride, value

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Pad (batch, channels, height, width)."""
        return pad_same(inputs, self.kernel_size, self.stride, self.value)


class BiasedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose running variance is the mean of the batches' biased variances, as in Flax.

    Args:
        momentum: weight of the batch in the running statistics, 1 - Flax's momentum.
        initial_weight: initial value of the weight; 0 for the last norm of a residual branch that starts as identity.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, momentum: float = 0.1, initial_weight: float = 1.0):
        super().__init__(channels, eps=EPSILON, momentum=momentum)
        self.initial_weight = initial_weight

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (batch, channels, height, width)."""
        if not self.training:
            return super().forward(input)
        momentum = float(self.momentum or 0)
        mean, variance = self.running_mean.clone(), self.running_var.clone()  # the backward pass keeps them
        normalized = nn.functional.batch_norm(input, mean, variance, self.weight, self.bias, True, momentum, self.eps)
        with torch.no_grad():
            unbiased = variance - (1 - momentum) * self.running_var
            self.running_mean.copy_(mean)
            self.running_var.copy_(variance - unbiased * (input.shape[1] / input.numel()))
        return normalized


def same_conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, bias: bool = False, name: str = ""
) -> dict[str, nn.Module]:
    """Return the layers of a SAME-padded convolution; their names end in `name`."""
    if stride == 1 or kernel_size == 1:
        return {f"conv{name}": nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=bias)}
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, bias=bias)
    return {f"pad{name}": PadSame(kernel_size, stride), f"conv{name}": conv}


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, name: str = "", **norm
) -> dict[str, nn.Module]:
    """Return the layers of a SAME-padded convolution and a batch norm; their names end in `name`."""
    conv = same_conv(in_channels, out_channels, kernel_size, stride, name=name)
    return conv | {f"norm{name}": BiasedBatchNorm(out_channels, **norm)}


def sequence(layers: dict[str, nn.Module]) -> nn.Sequential:
    """Return the layers one after the other."""
    return nn.Sequential(OrderedDict(layers))


class PreActivationBlock(GradientCheckpointingLayer):
    """Block of "ats": its shortcut, if projected, is a convolution of the activated input."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.activation = sequence({"norm": BiasedBatchNorm(in_channels), "relu": nn.ReLU()})
        projected = in_channels != channels or stride != 1
        self.shortcut = sequence(same_conv(in_channels, channels, 1, stride)) if projected else nn.Identity()
        layers = conv_norm(in_channels, channels, 3, stride, "1") | {"relu": nn.ReLU()}
        self.branch = sequence(layers | same_conv(channels, channels, 3, name="2"))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, height, width) to (batch, channels, height / stride, width / stride)."""
        activated = self.activation(hidden_states)
        return self.branch(activated) + self.shortcut(activated)


class ResNetBlock(GradientCheckpointingLayer):
    """Block of "resnet", basic or bottleneck, with the stride on its first 3x3 convolution."""

    def __init__(self, in_channels: int, width: int, stride: int, layer_type: str):
        super().__init__()
        if layer_type == "basic":
            channels = width
            layers = conv_norm(in_channels, width, 3, stride, "1") | {"relu1": nn.ReLU()}
            layers |= conv_norm(width, width, 3, name="2")
        else:
            channels = 4 * width
            layers = conv_norm(in_channels, width, 1, name="1") | {"relu1": nn.ReLU()}
            layers |= conv_norm(width, width, 3, stride, "2") | {"relu2": nn.ReLU()}
            layers |= conv_norm(width, channels, 1, name="3", initial_weight=0.0)
        self.branch = sequence(layers)
        projected = in_channels != channels or stride != 1
        self.shortcut = sequence(conv_norm(in_channels, channels, 1, stride)) if projected else nn.Identity()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, height, width) to (batch, channels, height / stride, width / stride)."""
        return (self.branch(hidden_states) + self.shortcut(hidden_states)).relu()


class PatchCnnPreTrainedModel(VitsPreTrainedModel):
    """Base class of the models of differentiable patch selection and of their convolutional networks."""

    config_class: type = PatchCnnConfig
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_flex_attn = False
    _supports_attention_backend = False
    _can_record_outputs: dict = {"hidden_states": OutputRecorder(GradientCheckpointingLayer)}

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Linear | nn.Conv2d):
            init_as_flax(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)
            if isinstance(module, BiasedBatchNorm):
                init.constant_(module.weight, module.initial_weight)


class PatchCnnModel(PatchCnnPreTrainedModel):
    """Convolutional network; `pooler_output` is the mean of its last feature map or, of "flat", its linear layer."""

    _input_embed_layer = "stem"

    def __init__(self, config: PatchCnnConfig):
        super().__init__(config)
        self.stem = sequence(make_stem(config))
        self.blocks = nn.ModuleList(make_blocks(config))
        is_ats = config.network == "ats"
        final = {"norm": BiasedBatchNorm(config.hidden_sizes[-1]), "relu": nn.ReLU()} if is_ats else {}
        self.final = sequence(final)
        self.projection = None
        if config.network == "flat":
            height, width = pair(config.image_size)
            size = config.hidden_sizes[0] * (height // 2) * (width // 2)
            self.projection = nn.Linear(size, config.projection_size)
        self.post_init()

    def feature_map(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the last feature map (batch, channels, rows, columns) of `pixel_values`."""
        check_pixel_values(pixel_values, self.config.num_channels)
        dtype = next(self.parameters()).dtype
        pixel_values = pixel_values.to(dtype)
        hidden_states = self.stem(append_positions(pixel_values) if self.config.append_position else pixel_values)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return self.final(hidden_states)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images (batch, num_channels, height, width)."""
        hidden_states = self.feature_map(pixel_values)
        if self.projection is None:
            return EncoderOutput(
                last_hidden_state=to_tokens(hidden_states), pooler_output=hidden_states.mean(dim=(2, 3))
            )
        values = hidden_states.movedim(1, -1).flatten(1)
        if values.shape[1] != self.projection.in_features:
            raise ValueError(
                f'network="flat" takes images of {tuple(pair(self.config.image_size))} pixels alone, got '
                f"{tuple(pixel_values.shape[-2:])}"
            )
        pooled = self.projection(values).relu()
        return EncoderOutput(last_hidden_state=pooled[:, None], pooler_output=pooled)


def make_stem(config: PatchCnnConfig) -> dict[str, nn.Module]:
    """Return the layers before the first block."""
    channels, size = config.num_channels + 2 * config.append_position, config.hidden_sizes[0]
    if config.network == "ats":
        return same_conv(channels, size, 3, config.strides[0])
    if config.network == "flat":
        return same_conv(channels, size, 3, bias=True) | {"relu": nn.ReLU(), "pool": nn.AvgPool2d(2)}
    if config.small_inputs:
        return conv_norm(channels, size, 3, momentum=0.01)
    pool = {"pool_pad": PadSame(3, 2, float("-inf")), "pool": nn.MaxPool2d(3, 2)}
    return conv_norm(channels, size, 7, 2, momentum=0.01) | pool


def make_blocks(config: PatchCnnConfig) -> list[nn.Module]:
    """Return the blocks of all stages."""
    sizes, blocks = config.hidden_sizes, []
    if config.network == "ats":
        steps = zip(sizes[:-1], sizes[1:], config.strides[1:], strict=True)
        return [PreActivationBlock(before, after, stride) for before, after, stride in steps]
    channels = sizes[0]
    stages = zip(sizes, config.depths, strict=True) if config.network == "resnet" else ()
    for stage, (width, depth) in enumerate(stages):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            blocks.append(ResNetBlock(channels, width, stride, config.layer_type))
            channels = width * config.expansion
    return blocks


class PatchCnnForImageClassification(ForImageClassification, PatchCnnPreTrainedModel):
    """Convolutional network with a linear classifier: the baseline on whole images."""

    model_class = PatchCnnModel


__all__ = ["PatchCnnForImageClassification", "PatchCnnModel", "PatchCnnPreTrainedModel"]
