"""Window attention: attention inside the windows of a feature map."""

import torch
from torch import nn

from .attention import SelfAttention
from .relative_position import RelativePositionBias


def partition(hidden_states: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """Cut feature maps into windows.

    Args:
        hidden_states: (batch, height, width, channels); `window` divides height and width.
        window: (height, width) of a window in tokens.

    Returns:
        (batch * windows, window height * window width, channels), windows in row-major order.
    """
    batch, height, width, channels = hidden_states.shape
    rows, columns = height // window[0], width // window[1]
    cells = hidden_states.view(batch, rows, window[0], columns, window[1], channels).transpose(2, 3)
    return cells.reshape(batch * rows * columns, window[0] * window[1], channels)


def merge(windows: torch.Tensor, window: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """Put windows back together: the inverse of `partition`.

    Args:
        windows: (batch * windows, window height * window width, channels).
        window: (height, width) of a window in tokens.
        grid: (height, width) of the feature map in tokens.

    Returns:
        (batch, height, width, channels).
    """
    rows, columns = grid[0] // window[0], grid[1] // window[1]
    cells = windows.view(-1, rows, columns, window[0], window[1], windows.shape[-1]).transpose(2, 3)
    return cells.reshape(-1, grid[0], grid[1], windows.shape[-1])


def pad_to_windows(hidden_states: torch.Tensor, window: tuple[int, int]) -> torch.Tensor:
    """Pad (batch, height, width, channels) with zeros below and to the right, until `window` divides the grid."""
    height, width = hidden_states.shape[1:3]
    below, right = -height % window[0], -width % window[1]
    return nn.functional.pad(hidden_states, (0, 0, 0, right, 0, below)) if below or right else hidden_states


def shift_mask(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int], device: torch.device | str
) -> torch.Tensor:
    """Return the mask that separates tokens which are neighbours only because of the cyclic shift.

    Liu et al., Swin, arXiv 2103.14030, section 3.2 and figure 4.

    Args:
        grid: (height, width) of the feature map in tokens, which `window` divides.
        shift: rows and columns by which the feature map was rolled, up and to the left.

    Returns:
        (windows, 1, tokens, tokens), -100 between tokens that are not neighbours in the feature map, else 0.
    """
    rows, columns = (
        (torch.arange(size, device=device) >= size - length).long()
        + (torch.arange(size, device=device) >= size - moved).long()
        for size, length, moved in zip(grid, window, shift, strict=True)
    )
    parts = partition((3 * rows[:, None] + columns)[None, ..., None], window).squeeze(-1)
    return (parts[:, None, :, None] != parts[:, None, None, :]).float() * -100.0


def half_window_mask(
    grid: tuple[int, int], window: tuple[int, int], device: torch.device, even_one: bool = False
) -> torch.Tensor | None:
    """Return the `shift_mask` of a feature map that is padded to windows and shifted by half a window.

    None for a feature map no larger than a window, unless `even_one` is set.
    """
    if not even_one and any(size <= side for size, side in zip(grid, window, strict=True)):
        return None
    padded = tuple(size + -size % side for size, side in zip(grid, window, strict=True))
    return shift_mask(padded, window, (window[0] // 2, window[1] // 2), device)


class WindowAttention(SelfAttention):
    """Self-attention inside the windows of a map, with a relative position bias (Swin, arXiv 2103.14030, section 3.2).

    A feature map that windows do not fill is padded with zeros below and to the right, which are attended to, as in
    Swin.

    Args:
        window: (height, width) of a window in tokens.
        options: arguments of `SelfAttention`.
    """

    def __init__(self, config, hidden_size: int, num_heads: int, window: tuple[int, int], **options):
        super().__init__(config, hidden_size, num_heads, **options)
        self.window = window
        self.position_bias = RelativePositionBias(window, num_heads)

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], mask: torch.Tensor | None = None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute attention inside windows.

        Args:
            hidden_states: (batch, rows * columns, hidden_size).
            grid: (rows, columns).
            mask: from `half_window_mask`, to shift windows by half their size; None for windows without shift.

        Returns:
            The same shape, and the probabilities (batch * windows, heads, tokens, tokens), None unless the
            implementation is eager.
        """
        feature_map = pad_to_windows(hidden_states.unflatten(1, grid), self.window)
        padded, bias = tuple(feature_map.shape[1:3]), self.position_bias()
        down, right = (side // 2 for side in self.window)
        if mask is not None:
            feature_map = feature_map.roll((-down, -right), dims=(1, 2))
            bias = (bias + mask.to(bias.dtype)).repeat(feature_map.shape[0], 1, 1, 1)
        attended, probabilities = super().forward(partition(feature_map, self.window), bias, **kwargs)
        feature_map = merge(attended, self.window, padded)
        if mask is not None:
            feature_map = feature_map.roll((down, right), dims=(1, 2))
        return feature_map[:, : grid[0], : grid[1]].flatten(1, 2), probabilities
