"""Biases on attention scores that depend on where a key lies relative to its query."""

import torch
from torch import nn

from .constants import Constants


def offsets(window: tuple[int, int]) -> torch.Tensor:
    """(tokens, tokens, 2): row and column of the query minus those of the key, tokens row by row."""
    rows, columns = (torch.arange(size, device="cpu") for size in window)
    places = torch.cartesian_prod(rows, columns).view(-1, 2)
    return places[:, None] - places[None]


class RelativePositionBias(Constants):
    """A learned bias per head and offset inside a window (Liu et al., Swin, arXiv 2103.14030, section 3.2).

    Args:
        window: (height, width) in tokens. The table has a row per offset, ((2 * height - 1) * (2 * width - 1), heads),
            with rows of offsets from lowest to highest and, inside them, columns likewise.
    """

    def __init__(self, window: tuple[int, int], num_heads: int):
        super().__init__()
        self.window = window
        self.table = nn.Parameter(torch.zeros((2 * window[0] - 1) * (2 * window[1] - 1), num_heads))
        self.register_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        height, width = self.window
        row, column = offsets(self.window).unbind(-1)
        return {"index": (row + height - 1) * (2 * width - 1) + column + width - 1}

    def forward(self) -> torch.Tensor:
        """(1, heads, tokens, tokens): the bias of every query (axis 2) on every key (axis 3)."""
        return self.table[self.index].permute(2, 0, 1)[None]
