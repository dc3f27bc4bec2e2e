"""Convolutional tokenizers: tokens from overlapping windows (Hassani et al., arXiv 2104.05704, section 3.3)."""

from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.activations import ACT2FN


class Window(NamedTuple):
    """Kernel size, stride and padding of a convolution or pooling, each (height, width)."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @classmethod
    def square(cls, kernel_size: int, stride: int, padding: int) -> "Window":
        """Make a window that is the same along height and width."""
        return cls((kernel_size, kernel_size), (stride, stride), (padding, padding))

    @classmethod
    def along_sequence(cls, kernel_size: int, stride: int, padding: int) -> "Window":
        """Make a window for sequences in the form of images of width 1."""
        return cls((kernel_size, 1), (stride, 1), (padding, 0))

    def count(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the number of windows in a feature map of `size` (height, width); below 1 where none fits."""
        rows, columns = (
            (length + 2 * padding - kernel) // stride + 1
            for length, kernel, stride, padding in zip(size, *self, strict=True)
        )
        return rows, columns

    def smallest(self, count: tuple[int, int]) -> tuple[int, int]:
        """Return the smallest feature map that holds `count` windows."""
        height, width = (
            max(1, (number - 1) * stride + kernel - 2 * padding)
            for number, kernel, stride, padding in zip(count, *self, strict=True)
        )
        return height, width

    def covers(self, mask: torch.Tensor) -> torch.Tensor:
        """Return which windows are real, given a boolean mask (batch, 1, height, width) of real cells.

        Real windows are those that would exist without the padding: windows inside the real cells plus the
        convolution's own padding around them. Without that padding (`padding` 0), windows with any real cell.

        Returns:
            Boolean (batch, 1, rows, columns).
        """
        reach = [padding or kernel - 1 for kernel, padding in zip(self.kernel_size, self.padding, strict=True)]
        (rows, columns), real = self.padding, mask.float()
        real = nn.functional.pad(real, (columns, columns, rows, rows))
        real = nn.functional.max_pool2d(real, [2 * cells + 1 for cells in reach], stride=1, padding=reach)
        return -nn.functional.max_pool2d(-real, self.kernel_size, self.stride) > 0


class ConvTokenizer(nn.Module):
    """Convolutional tokenizer: convolutions, each with optional activation and max-pooling.

    The cells of the last feature map are the tokens.

    Args:
        channels: channels of the input, of every feature map between convolutions, and of the tokens.
        convolution: window of every convolution.
        activation: a name of transformers' `ACT2FN`, or None.
        pool: window of the max-pooling after every convolution, or None.
    """

    def __init__(
        self,
        channels: list[int],
        convolution: Window,
        bias: bool = False,
        activation: str | None = None,
        pool: Window | None = None,
    ):
        super().__init__()
        self.convolution = convolution
        self.pool = pool
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(channels[index], channels[index + 1], *convolution, bias=bias),
                    nn.Identity() if activation is None else ACT2FN[activation],
                    nn.Identity() if pool is None else nn.MaxPool2d(*pool),
                )
                for index in range(len(channels) - 1)
            )
        )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (rows, columns) of tokens for an input of this size; ValueError where it is too small."""
        smallest = self.smallest_input()
        if height < smallest[0] or width < smallest[1]:
            raise ValueError(
                f"an input of {height}x{width} is too small for the convolutional tokenizer: height must be at least "
                f"{smallest[0]} and width at least {smallest[1]}"
            )
        size = height, width
        for window in self.windows():
            size = window.count(size)
        return size

    def smallest_input(self) -> tuple[int, int]:
        """Return the smallest (height, width) that gives a token."""
        size = (1, 1)
        for window in reversed(self.windows()):
            size = window.smallest(size)
        return size

    def windows(self) -> list[Window]:
        """Return the windows of all convolutions and poolings, first to last."""
        return ([self.convolution] if self.pool is None else [self.convolution, self.pool]) * len(self.layers)

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the tokens (batch, hidden_size, rows, columns), zero for padding.

        Args:
            inputs: (batch, channels, height, width), zero where `mask` is False.
            mask: boolean (batch, 1, height, width), False for padding, or None.
        """
        layers: Any = self.layers
        tokens = inputs.to(layers[0][0].weight.dtype)
        for convolution, activation, pool in layers:
            tokens, mask = without_padding(activation(convolution(tokens)), mask, self.convolution)
            if self.pool is not None:
                tokens, mask = without_padding(pool(tokens), mask, self.pool)
        return tokens

    def mask_of_tokens(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the mask of the tokens (batch, 1, rows, columns), given the mask of the inputs."""
        for window in self.windows():
            mask = window.covers(mask)
        return mask


def without_padding(
    maps: torch.Tensor, mask: torch.Tensor | None, window: Window
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Set the results of `window` to zero where they belong to padding; also returns the mask over them."""
    if mask is None:
        return maps, None
    mask = window.covers(mask)
    # Zero is a convolution's padding value, and the smallest value for max-pooling after ReLU.
    return maps.masked_fill(~mask, 0), mask
