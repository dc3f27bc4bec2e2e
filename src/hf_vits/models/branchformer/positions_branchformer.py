"""Sine-cosine tables of the positions in a sequence, as ESPnet makes them."""

import math

import torch

from ...layers.constants import Constants


def sinusoids(positions: torch.Tensor, channels: int) -> torch.Tensor:
    """(positions,) to (positions, channels): sine on the even channels, cosine on the odd ones.

    The angle of position p and channel c is p / 10000^(2 * (c // 2) / channels), all of it in single precision, which
    far positions show (espnet/nets/pytorch_backend/transformer/embedding.py).
    """
    steps = torch.arange(0, channels, 2, dtype=torch.float32, device=positions.device)
    angles = positions.float()[:, None] * torch.exp(steps * -(math.log(10000.0) / channels))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class Sinusoids(Constants):
    """The table for sequences of each length: of absolute positions, from 0 upwards.

    Args:
        max_positions: longest sequence whose table is kept; those of longer ones are made when they come.
    """

    table: torch.Tensor

    def __init__(self, max_positions: int, hidden_size: int):
        super().__init__()
        self.max_positions = max_positions
        self.hidden_size = hidden_size
        self.register_constants()

    def positions(self, length: int, device: torch.device | str) -> torch.Tensor:
        """The positions of a table that holds a sequence of `length`, (rows,)."""
        return torch.arange(length, device=device)

    def rows(self, length: int) -> slice:
        """Where those of a sequence of `length` stand in the table that is kept."""
        return slice(length)

    def constants(self) -> dict[str, torch.Tensor]:
        return {"table": sinusoids(self.positions(self.max_positions, "cpu"), self.hidden_size)}

    def forward(self, length: int) -> torch.Tensor:
        """(rows, hidden_size) for a sequence of `length`."""
        if length <= self.max_positions:
            return self.table[self.rows(length)]
        return sinusoids(self.positions(length, self.table.device), self.hidden_size).to(self.table.dtype)


class RelativeSinusoids(Sinusoids):
    """Of every distance of a query from a key: 2 * length rows, from length - 1 down to -length.

    The last row is the distance of no pair; with it, `layers.relative_attention` needs no padding.
    """

    def positions(self, length: int, device: torch.device | str) -> torch.Tensor:
        return torch.arange(length - 1, -length - 1, -1, device=device)

    def rows(self, length: int) -> slice:
        return slice(self.max_positions - length, self.max_positions + length)


class LegacyRelativeSinusoids(Sinusoids):
    """`length` rows downwards from max_positions - 1, whatever the length; from length - 1 where that is more.

    What ESPnet had before its pull request 2816, which some of its models keep: the rows are not the distances.
    """

    def positions(self, length: int, device: torch.device | str) -> torch.Tensor:
        return torch.arange(length - 1, -1, -1, device=device)
