"""Convolutional tokenizers: tokens from overlapping windows (Hassani et al., arXiv 2104.05704, section 3.3)."""

from typing import NamedTuple

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
        self.windows = [convolution] if pool is None else [convolution, pool]
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
        for window in self.windows * len(self.layers):
            size = window.count(size)
        return size

    def smallest_input(self) -> tuple[int, int]:
        """(height, width) of the smallest input that gives a token."""
        size = (1, 1)
        for window in reversed(self.windows * len(self.layers)):
            size = window.smallest(size)
        return size

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to (batch, hidden_size, rows, columns)."""
        return self.layers(inputs.to(self.layers[0][0].weight.dtype))

    def covered(self, mask: torch.Tensor) -> torch.Tensor:
        """Which tokens see any marked cell: boolean (batch, height, width) to (batch, rows, columns).

        The border counts as marked where the cell beside it is, so a mask of ones marks every token.
        """
        marked = mask[:, None].float()
        for kernel_size, stride, (rows, columns) in self.windows * len(self.layers):
            marked = nn.functional.pad(marked, (columns, columns, rows, rows), mode="replicate")
            marked = nn.functional.max_pool2d(marked, kernel_size, stride)
        return marked[:, 0] > 0
