"""Windows: attention inside the cells of a regular partition of the map."""

import torch
from torch import nn


def partition(hidden_states: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """Cut maps into windows.

    Args:
        hidden_states: (batch, height, width, channels), channels last; `window` divides height and width.
        window: (height, width) of a window in tokens.

    Returns:
        (batch * windows, window height * window width, channels), windows row by row.
    """
    batch, height, width, channels = hidden_states.shape
    rows, columns = height // window[0], width // window[1]
    cells = hidden_states.view(batch, rows, window[0], columns, window[1], channels).transpose(2, 3)
    return cells.reshape(batch * rows * columns, window[0] * window[1], channels)


def merge(windows: torch.Tensor, window: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """Put windows back together: the inverse of `partition`.

    Args:
        windows: (batch * windows, window height * window width, channels).
        grid: (height, width) of the map in tokens.

    Returns:
        (batch, height, width, channels).
    """
    rows, columns = grid[0] // window[0], grid[1] // window[1]
    cells = windows.view(-1, rows, columns, window[0], window[1], windows.shape[-1]).transpose(2, 3)
    return cells.reshape(-1, grid[0], grid[1], windows.shape[-1])


def pad_to_windows(hidden_states: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """(batch, height, width, channels) with zeros below and to the right, until `window` divides the map."""
    height, width = hidden_states.shape[1:3]
    below, right = -height % window[0], -width % window[1]
    return nn.functional.pad(hidden_states, (0, 0, 0, right, 0, below)) if below or right else hidden_states
