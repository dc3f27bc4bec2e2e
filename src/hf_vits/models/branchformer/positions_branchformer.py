"""ESPnet's sine-cosine tables of positions in a sequence."""

import math

import torch

from ...layers.constants import Constants


def sinusoids(positions: torch.Tensor, channels: int) -> torch.Tensor:
    """Map positions (positions,) to (positions, channels): sine on even channels, cosine on odd channels.

    The angle of position p and channel c is p / 10000^(2 * (c // 2) / channels), computed in single precision, as in
    espnet/nets/pytorch_backend/transformer/embedding.py; for large positions the precision matters.
    """
    steps = torch.arange(0, channels, 2, dtype=torch.float32, device=positions.device)
    angles = positions.float()[:, None] * torch.exp(steps * -(math.log(10000.0) / channels))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class Sinusoids(Constants):
    """Table of absolute positions, from 0 upwards.

    Args:
        max_positions: longest sequence whose table is stored; tables of longer sequences are computed on each call.
    """

    table: torch.Tensor

    def __init__(self, max_positions: int, hidden_size: int):
        super().__init__()
        self.max_positions = max_positions
        self.hidden_size = hidden_size
        self.register_constants()

    def positions(self, length: int, device: torch.device | str) -> torch.Tensor:
        """Return the positions (rows,) of the table for a sequence of `length`."""
        return torch.arange(length, device=device)

    def rows(self, length: int) -> slice:
        """Return which rows of the stored table belong to a sequence of `length`."""
        return slice(length)

    def constants(self) -> dict[str, torch.Tensor]:
        return {"table": sinusoids(self.positions(self.max_positions, "cpu"), self.hidden_size)}

    def forward(self, length: int) -> torch.Tensor:
        """Return the table (rows, hidden_size) for a sequence of `length`."""
        if length <= self.max_positions:
            return self.table[self.rows(length)]
        return sinusoids(self.positions(length, self.table.device), self.hidden_size).to(self.table.dtype)


class RelativeSinusoids(Sinusoids):
    """Table of the distances of query and key: 2 * length rows, from distance length - 1 down to -length.

    No pair has the last distance; its row spares `layers.relative_attention` a padding.
    """

    def positions(self, length: int, device: torch.device | str) -> torch.Tensor:
        return torch.arange(length - 1, -length - 1, -1, device=device)

    def rows(self, length: int) -> slice:
        return slice(self.max_positions - length, self.max_positions + length)


class LegacyRelativeSinusoids(Sinusoids):
    """Table of older ESPnet models (before pull request 2816), whose rows are not the distances of query and key.

    It has `length` rows: the positions downwards from max_positions - 1, or from length - 1 if that is larger.
    """

    def positions(self, length: int, device: torch.device | str) -> torch.Tensor:
        return torch.arange(length - 1, -1, -1, device=device)
