"""Segmentation head of convolutions (FCN): MkuuWaUjinga/leopart, experiments/linear_probing/fcn/fcn_head.py."""

import torch
from torch import Tensor, nn


class ConvRelu(nn.Sequential):
    """Convolution that keeps the size, and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
        super().__init__(convolution, nn.ReLU())


class FCNHead(nn.Module):
    """Convolutions with ReLU, one over their output beside the input, dropout, and a classifier of every place.

    Args:
        in_channels: of the tokens.
        num_classes: number of classes.
        channels: of the convolutions.
        num_convs: number of convolutions before the last; without any, `in_channels` must be `channels`.
        kernel_size: side of the kernels.
        concat_input: whether there is a convolution over input and output.
        dropout: rate at which whole channels are dropped in training.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: int = 512,
        num_convs: int = 2,
        kernel_size: int = 3,
        concat_input: bool = True,
        dropout: float = 0.1,
    ):
        super().__init__()
        if num_convs < 0 or (num_convs == 0 and in_channels != channels):
            raise ValueError(f"a head of {num_convs} convolutions cannot turn {in_channels} channels into {channels}")
        widths = [in_channels, *[channels] * num_convs]
        self.convs = nn.Sequential(*[ConvRelu(before, channels, kernel_size) for before in widths[:-1]])
        self.concat = ConvRelu(in_channels + channels, channels, kernel_size) if concat_input else None
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (batch, in_channels, rows, columns) to logits (batch, num_classes, rows, columns)."""
        features = self.convs(maps)
        if self.concat is not None:
            features = self.concat(torch.cat([maps, features], dim=1))
        return self.classifier(self.dropout(features))
