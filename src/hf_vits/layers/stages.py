"""Stages of hierarchical encoders: each takes a feature map and returns a coarser one."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from .convolution import to_map, to_tokens
from .window import half_window_mask


class Stage(nn.Module):
    """Base of the stages of a hierarchical encoder: takes a map (batch, channels, height, width) and returns the next.

    What turns the map before into the stage's own grid (patches, a strided convolution) is the stage's first step; the
    first stage's is in the embeddings. A stage that hands on more than a map returns a tuple that begins with it.
    """


class TokenStage(Stage):
    """A grid of tokens, coarser than the one before, and layers on it; a class token joins where it is last.

    Args:
        embeddings: from the map before to this stage's; None for a first stage.
        layers: each maps (tokens, grid) to tokens.
        class_token_size: width of the class token; None: there is none.
        position_embedding: gives a grid's positions, those of the class token first; None: there is none.
        dropout: rate of dropout in front of the layers.
    """

    def __init__(
        self,
        embeddings: nn.Module | None,
        layers: Iterable[nn.Module],
        class_token_size: int | None = None,
        position_embedding: nn.Module | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.embeddings = embeddings
        self.class_token = None if class_token_size is None else nn.Parameter(torch.zeros(1, 1, class_token_size))
        self.position_embedding = position_embedding
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(layers)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (batch, channels, height, width) to the stage's map and its prefix tokens (batch, prefix, channels)."""
        if self.embeddings is not None:
            hidden_states = self.embeddings(hidden_states)
        grid = tuple(hidden_states.shape[-2:])
        tokens = to_tokens(hidden_states)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding(grid)
        tokens = self.dropout(tokens)
        for layer in self.layers:
            tokens = layer(tokens, grid, **kwargs)
        count = tokens.shape[1] - grid[0] * grid[1]
        return to_map(tokens[:, count:], grid), tokens[:, :count]


class WindowStage(Stage):
    """A coarser grid of tokens and layers of window attention on it (Swin, arXiv 2103.14030, section 3.2).

    Args:
        merging: from the map before to this stage's; None for a first stage.
        layers: each maps (tokens, grid, mask) to tokens, `mask` as in `layers.window.WindowAttention`.
        window: (height, width) of a window in tokens.
        shift_windows: whether every second layer shifts the map by half a window. True leaves alone a map that is
            no larger than one; "always" shifts it too.
    """

    def __init__(
        self,
        merging: nn.Module | None,
        layers: Iterable[nn.Module],
        window: tuple[int, int],
        shift_windows: bool | Literal["always"] = True,
    ):
        super().__init__()
        self.merging = merging
        self.layers = nn.ModuleList(layers)
        self.window = window
        self.shift_windows = shift_windows

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, channels, height, width) to the stage's map."""
        if self.merging is not None:
            hidden_states = self.merging(hidden_states)
        grid = tuple(hidden_states.shape[-2:])
        mask = None
        if self.shift_windows:
            mask = half_window_mask(grid, self.window, hidden_states.device, self.shift_windows == "always")
        tokens = to_tokens(hidden_states)
        for index, layer in enumerate(self.layers):
            tokens = layer(tokens, grid, mask if index % 2 else None, **kwargs)
        return to_map(tokens, grid)
