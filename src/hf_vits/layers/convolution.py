"""Convolutions between and inside transformer layers."""

from typing import Literal

import torch
from torch import nn
from transformers.activations import ACT2FN


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch norm, which `hf_vits.fuse` folds away.

    Args:
        kernel_size: one side, or (height, width).
        padding: None for half the kernel size, which keeps height and width at stride 1.
        activation: a name of transformers' `ACT2FN`; None for none.
        padding_mode: what surrounds the map, see `nn.Conv2d`.
        eps: of the batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] | None = None,
        groups: int = 1,
        activation: str | None = None,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
        eps: float = 1e-5,
    ):
        if padding is None:
            padding = kernel_size // 2 if isinstance(kernel_size, int) else (kernel_size[0] // 2, kernel_size[1] // 2)
        options = {"groups": groups, "bias": False, "padding_mode": padding_mode}
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, **options),
            nn.BatchNorm2d(out_channels, eps=eps),
            *([] if activation is None else [ACT2FN[activation]]),
        )


class PointwiseLinear(nn.Conv2d):
    """1x1 convolution: a linear layer on the channels of a feature map, initialised as linear layers are.

    Takes all arguments of `nn.Conv2d`, with which adapters make a layer of the same class.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int] = 1, *args, **kwargs):
        super().__init__(in_channels, out_channels, kernel_size, *args, **kwargs)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of a feature map."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return super().forward(hidden_states.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvPositionEmbedding(nn.Conv2d):
    """Convolutional position embedding: a depth-wise convolution with a residual connection.

    The conditional positional encoding of Chu et al., arXiv 2102.10882; CoaT's convolutional position encoding, CMT's
    local perception unit and RegionViT's PEG are the same.
    """

    def __init__(self, channels: int, kernel_size: int = 3, bias: bool = True):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=bias)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return hidden_states + super().forward(hidden_states)


def to_tokens(hidden_states: torch.Tensor) -> torch.Tensor:
    """Map (batch, channels, height, width) to (batch, height * width, channels)."""
    return hidden_states.flatten(2).transpose(1, 2)


def to_map(tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Map (batch, height * width, channels) to (batch, channels, height, width)."""
    return tokens.transpose(1, 2).unflatten(2, grid)
