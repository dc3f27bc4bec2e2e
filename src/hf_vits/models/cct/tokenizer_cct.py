"""Convolutional tokenizers: tokens from overlapping windows (Hassani et al., arXiv 2104.05704, section 3.3)."""

from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.activations import ACT2FN


class Window(NamedTuple):
    """How a convolution or a pooling slides: (height, width) of its kernel, of its steps and of the border."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @classmethod
    def square(cls, kernel_size: int, stride: int, padding: int) -> "Window":
        return cls((kernel_size, kernel_size), (stride, stride), (padding, padding))

    @classmethod
    def along_sequence(cls, kernel_size: int, stride: int, padding: int) -> "Window":
        """For sequences laid out as images of width 1."""
        return cls((kernel_size, 1), (stride, 1), (padding, 0))

    def count(self, size: tuple[int, int]) -> tuple[int, int]:
        """How many windows fit a map of `size`, by height and width; below 1 where none does."""
        rows, columns = (
            (length + 2 * padding - kernel) // stride + 1
            for length, kernel, stride, padding in zip(size, *self, strict=True)
        )
        return rows, columns

    def smallest(self, count: tuple[int, int]) -> tuple[int, int]:
        """The smallest map in which `count` windows fit."""
        height, width = (
            max(1, (number - 1) * stride + kernel - 2 * padding)
            for number, kernel, stride, padding in zip(count, *self, strict=True)
        )
        return height, width

    def covers(self, mask: torch.Tensor) -> torch.Tensor:
        """Which windows count where some cells are padding: boolean (batch, 1, height, width) to (..., rows, columns).

        Those that lie within the real cells and a border around them, which are the windows there would be without the
        padding; of windows without a border, those with any real cell.
        """
        reach = [padding or kernel - 1 for kernel, padding in zip(self.kernel_size, self.padding, strict=True)]
        (rows, columns), real = self.padding, mask.float()
        real = nn.functional.pad(real, (columns, columns, rows, rows))
        real = nn.functional.max_pool2d(real, [2 * cells + 1 for cells in reach], stride=1, padding=reach)
        return -nn.functional.max_pool2d(-real, self.kernel_size, self.stride) > 0


class ConvTokenizer(nn.Module):
    """Convolutions, each with an optional activation and max-pooling; the cells of the last map are the tokens.

    Args:
        channels: of the input, of every map between, of the tokens: one convolution less than there are entries.
        convolution: windows of every convolution.
        activation: a name of transformers' `ACT2FN`, or None.
        pool: windows of the max-pooling after every convolution, or None.
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
        """(rows, columns) of tokens of an input of this size; ValueError where it is too small for any."""
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
        """(height, width) of the smallest input that gives a token."""
        size = (1, 1)
        for window in reversed(self.windows()):
            size = window.smallest(size)
        return size

    def windows(self) -> list[Window]:
        """All windows that the input passes through, first to last."""
        return ([self.convolution] if self.pool is None else [self.convolution, self.pool]) * len(self.layers)

    def forward(
        self, inputs: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Make tokens.

        Args:
            inputs: (batch, channels, height, width), zero where `mask` is False.
            mask: boolean (batch, 1, height, width), False for padding, or None.

        Returns:
            The tokens (batch, hidden_size, rows, columns), zero where they are of padding, and the mask over them
            (batch, 1, rows, columns).
        """
        layers: Any = self.layers
        tokens = inputs.to(layers[0][0].weight.dtype)
        for convolution, activation, pool in layers:
            tokens, mask = without_padding(activation(convolution(tokens)), mask, self.convolution)
            if self.pool is not None:
                tokens, mask = without_padding(pool(tokens), mask, self.pool)
        return tokens, mask


def without_padding(
    maps: torch.Tensor, mask: torch.Tensor | None, window: Window
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Maps that `window` made, zero where it saw padding, and the mask over them."""
    if mask is None:
        return maps, None
    mask = window.covers(mask)
    # Zero is what the border of a convolution holds, and what max-pooling after ReLU passes over.
    return maps.masked_fill(~mask, 0), mask
