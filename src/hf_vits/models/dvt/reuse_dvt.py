"""Reuse of a network's tokens and attention scores by the next network, which has more tokens.

Wang et al., arXiv 2105.15075, section 3.3 and figure 4; models/t2t_vit.py, models/transformer_block.py.
"""

from typing import NamedTuple

import torch
from torch import nn
from transformers.activations import ACT2FN

Grid = tuple[int, int]


class NetworkState(NamedTuple):
    """What a network leaves to the next one.

    Attributes:
        tokens: (batch, 1 + tokens, hidden_size), output of the last layer, before the final norm.
        scores: attention scores (batch, heads, 1 + tokens, 1 + tokens) of each layer before the softmax; empty where
            they are not reused.
        grid: (rows, columns) of the tokens.
    """

    tokens: torch.Tensor
    scores: tuple[torch.Tensor, ...]
    grid: Grid

    def select(self, samples: torch.Tensor) -> "NetworkState":
        """Return the state of some samples, by their indices."""
        return NetworkState(self.tokens[samples], tuple(scores[samples] for scores in self.scores), self.grid)


@torch.compiler.assume_constant_result
def enlargement(old: int, new: int) -> torch.Tensor:
    """Return the matrix (new, old) that enlarges one axis of a grid.

    It does what the original computes: nearest-neighbour interpolation to twice the length, then an adaptive average
    to the new length.
    """
    matrix = torch.zeros(new, old, device="cpu")
    for row in range(new):
        start, end = row * 2 * old // new, -(-(row + 1) * 2 * old // new)
        for cell in range(start, end):
            matrix[row, cell // 2] += 1 / (end - start)
    return matrix


def enlarge(tokens: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
    """Enlarge a grid of tokens from (..., rows * columns, channels) to another grid, rows first."""
    rows, columns = (enlargement(*sizes).to(tokens) for sizes in zip(old, new, strict=True))
    by_row = tokens.unflatten(-2, old).flatten(-2)
    by_column = (rows @ by_row).unflatten(-1, (old[1], -1))
    return (columns @ by_column).flatten(-3, -2)


def enlarge_after_class(tokens: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
    """Enlarge the grid in (..., 1 + rows * columns, channels); the class token's row is unchanged."""
    return torch.cat([tokens[..., :1, :], enlarge(tokens[..., 1:, :], old, new)], dim=-2)


def enlarge_scores(scores: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
    """Enlarge attention scores (..., 1 + tokens, 1 + tokens) in their queries, then in their keys."""
    by_key = enlarge_after_class(scores, old, new).transpose(-1, -2)
    return enlarge_after_class(by_key, old, new).transpose(-1, -2)


class RelationReuse(nn.Module):
    """Two 1x1 convolutions over the attention scores of all layers and heads of the network before."""

    def __init__(self, config):
        super().__init__()
        self.num_layers = config.num_hidden_layers
        channels = config.num_hidden_layers * config.num_attention_heads
        self.up = nn.Conv2d(channels, config.relation_ratio * channels, kernel_size=1)
        self.activation = ACT2FN[config.hidden_act]
        self.down = nn.Conv2d(config.relation_ratio * channels, channels, kernel_size=1)

    def forward(self, scores: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Map the scores (batch, heads, tokens, tokens) of each layer to as many of the same shape."""
        mixed = self.down(self.activation(self.up(torch.cat(scores, dim=1))))
        return mixed.chunk(self.num_layers, dim=1)
