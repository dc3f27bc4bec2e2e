"""Stages of hierarchical encoders: each takes a feature map and returns a coarser one."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from .convolution import to_map, to_tokens
from .window import half_window_mask


class Stage(nn.Module):
    """Base of the stages of a hierarchical encoder, each of which maps a feature map to its own.

    A stage starts with downsampling (merged patches, a strided convolution) and then runs its layers on the smaller
    feature map, (batch, channels, height, width). The first stage has no downsampling of its own: the model's
    embeddings do it. A stage with several outputs returns a tuple, the feature map first.
    """


class TokenStage(Stage):
    """Stage of layers on tokens: patch embedding, optional class token and positions, layers.

    Args:
        embeddings: embeds the previous stage's feature map as patches; None for the first stage.
        layers: each maps (tokens, grid) to tokens.
        class_token_size: channels of a class token that is added in front of the tokens; None for none.
        position_embedding: maps a grid to the position embeddings of class token and grid; None for none.
        dropout: rate of the dropout before the layers.
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
        """Map (batch, channels, height, width) to the stage's feature map and its prefix tokens."""
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
    """Stage of window attention: patch merging, then layers (Swin, arXiv 2103.14030, section 3.2).

    Args:
        merging: merges patches of the previous stage's feature map; None for the first stage.
        layers: each maps (tokens, grid, mask) to tokens, `mask` as in `layers.window.WindowAttention`.
        window: (height, width) of a window in tokens.
        shift_windows: whether every second layer shifts the feature map by half a window. With True, a feature map
            no larger than a window is not shifted; with "always", it is.
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
        """Map (batch, channels, height, width) to the stage's feature map."""
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
