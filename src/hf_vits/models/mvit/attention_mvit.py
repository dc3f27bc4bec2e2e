"""Pooling attention: queries, keys and values are pooled on their map before they meet.

Fan et al., MViT, arXiv 2104.11227, section 3.1; Li et al., MViTv2, arXiv 2112.01526, section 4.1. Maps have two axes,
(height, width), or three, (frames, height, width). Prefix tokens, such as a class token, stand before a map's tokens.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from ...layers.attention import Attention, attend
from ...layers.convolution import to_map, to_tokens
from ...layers.relative_position import DecomposedRelativePositions, sum_over_axes
from ...layers.window import merge, pad_to_windows, partition

Grid = tuple[int, ...]


def pooled_grid(grid: Grid, stride: Grid) -> Grid:
    """Sizes of a map after pooling with a kernel of odd size and half of it as padding: divided and rounded up."""
    return tuple(-(-size // step) for size, step in zip(grid, stride, strict=True))


class Pooling(NamedTuple):
    """How a map is pooled, along each axis."""

    kernel_size: Grid
    stride: Grid


class HeadPooling(nn.Module):
    """Pooling of the map of every head: a depth-wise convolution, the same for all heads, then layer norm.

    Prefix tokens skip the convolution, not the norm.
    """

    def __init__(self, head_size: int, pooling: Pooling, eps: float):
        super().__init__()
        self.stride = pooling.stride
        self.convolution = (nn.Conv2d, nn.Conv3d)[len(pooling.stride) - 2](
            head_size,
            head_size,
            pooling.kernel_size,
            pooling.stride,
            padding=tuple(size // 2 for size in pooling.kernel_size),
            groups=head_size,
            bias=False,
        )
        self.norm = nn.LayerNorm(head_size, eps=eps)

    def forward(self, states: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        """(batch, heads, prefix + prod(grid), head_size) to the same on a coarser grid, and that grid."""
        num_prefix = states.shape[2] - math.prod(grid)
        maps = to_map(states[:, :, num_prefix:].flatten(0, 1), grid)
        pooled = to_tokens(self.convolution(maps)).unflatten(0, states.shape[:2])
        if num_prefix:
            pooled = torch.cat([states[:, :, :num_prefix], pooled], dim=2)
        return self.norm(pooled), pooled_grid(grid, self.stride)


class PoolingAttention(Attention):
    """Attention of pooled queries to pooled keys and values.

    Args:
        config: names the attention implementation (`_attn_implementation`).
        input_size, hidden_size: channels of the tokens that come and that leave.
        query_pooling, key_value_pooling: None for none.
        eps: of the norms after pooling.
        positions: relative positions on the pooled maps, or windows, or None.
        residual: whether each query is added to what it attended to; prefix tokens are not.
        windows: sides of the windows of queries and of keys, inside which attention stays; None for the whole map.
            Padding of the last windows is zero in queries, keys and values, and is attended to, as in detectron2.
    """

    def __init__(
        self,
        config,
        input_size: int,
        hidden_size: int,
        num_heads: int,
        query_pooling: Pooling | None,
        key_value_pooling: Pooling | None,
        eps: float,
        positions: DecomposedRelativePositions | None = None,
        residual: bool = False,
        windows: tuple[int, int] | None = None,
    ):
        head_size = hidden_size // num_heads
        super().__init__(config, head_size**-0.5)
        self.num_heads = num_heads
        self.residual = residual
        self.windows = windows
        self.qkv = nn.Linear(input_size, 3 * hidden_size)
        self.query_pooling = None if query_pooling is None else HeadPooling(head_size, query_pooling, eps)
        self.key_pooling = None if key_value_pooling is None else HeadPooling(head_size, key_value_pooling, eps)
        self.value_pooling = None if key_value_pooling is None else HeadPooling(head_size, key_value_pooling, eps)
        self.positions = positions
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor, grid: Grid, **kwargs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Let tokens attend to one another.

        Args:
            hidden_states: (batch, prefix + prod(grid), input_size).
            grid: sizes of the map.

        Returns:
            (batch, prefix + pooled grid of the queries, hidden_size), and the probabilities where the implementation
            has them: (batch, heads, queries, keys), with windows (batch * heads * windows, 1, queries, keys).
        """
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        query, query_grid = pool(self.query_pooling, query.transpose(1, 2), grid)
        key, key_grid = pool(self.key_pooling, key.transpose(1, 2), grid)
        value, _ = pool(self.value_pooling, value.transpose(1, 2), grid)
        mix = self.mix if self.windows is None else self.mix_in_windows
        attended, probabilities = mix(query, key, value, query_grid, key_grid, **kwargs)
        if self.residual:
            attended = add_queries(attended, query.transpose(1, 2), query.shape[2] - math.prod(query_grid))
        return self.projection(attended.flatten(2)), probabilities

    def mix(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, query_grid: Grid, key_grid: Grid, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(batch, heads, tokens, head_size) to (batch, queries, heads, head_size), and probabilities."""
        if self.positions is None:
            return attend(self, query, key, value, **kwargs)
        num_prefix, head_size = query.shape[2] - math.prod(query_grid), query.shape[3]
        terms = self.positions(query[:, :, num_prefix:], query_grid, key_grid)
        if self.adds_bias(query):
            bias = nn.functional.pad(sum_over_axes(terms, key_grid), (num_prefix, 0, num_prefix, 0))
            return attend(self, query, key, value, bias, **kwargs)
        # Further channels that give the same scores, so that fused implementations need no mask of queries by keys.
        coordinates = self.positions.key_coordinates(key_grid).to(key.dtype) / self.scaling
        coordinates = nn.functional.pad(coordinates, (0, 0, num_prefix, 0)).expand(*key.shape[:2], -1, -1)
        terms = nn.functional.pad(torch.cat(terms, dim=-1), (0, 0, num_prefix, 0))
        query, key = torch.cat([query, terms], dim=-1), torch.cat([key, coordinates], dim=-1)
        value = nn.functional.pad(value, (0, terms.shape[-1]))
        attended, _ = attend(self, query, key, value, **kwargs)
        return attended[..., :head_size], None

    def adds_bias(self, query: torch.Tensor) -> bool:
        """Whether what positions add to the scores is handed over as a bias of queries by keys.

        The fused implementation on the CPU reads it faster than further channels, but gives it no gradient.
        """
        implementation = self.config._attn_implementation
        on_cpu = query.device.type == "cpu" and not torch.is_grad_enabled()
        return implementation == "eager" or (implementation == "sdpa" and on_cpu)

    def mix_in_windows(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, query_grid: Grid, key_grid: Grid, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `mix`, each window for itself."""
        query_window, key_window = ((side, side) for side in self.windows)
        query_cells, padded_grid = cut(query, query_grid, query_window)
        key_cells, _ = cut(key, key_grid, key_window)
        value_cells, _ = cut(value, key_grid, key_window)
        attended, probabilities = self.mix(query_cells, key_cells, value_cells, query_window, key_window, **kwargs)
        rows, columns = query_grid
        maps = merge(attended.squeeze(2), query_window, padded_grid)[:, :rows, :columns]
        return maps.flatten(1, 2).unflatten(0, query.shape[:2]).transpose(1, 2), probabilities


def pool(pooling: HeadPooling | None, states: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
    return (states, grid) if pooling is None else pooling(states, grid)


def cut(states: torch.Tensor, grid: Grid, window: tuple[int, int]) -> tuple[torch.Tensor, Grid]:
    """(batch, heads, tokens, head_size) to (batch * heads * windows, 1, tokens, head_size), and the padded grid."""
    padded = pad_to_windows(states.flatten(0, 1).unflatten(1, grid), window)
    return partition(padded, window)[:, None], tuple(padded.shape[1:3])


def add_queries(attended: torch.Tensor, query: torch.Tensor, num_prefix: int) -> torch.Tensor:
    """Both (batch, tokens, heads, head_size); prefix tokens stay as they are."""
    if not num_prefix:
        return attended + query
    return torch.cat([attended[:, :num_prefix], attended[:, num_prefix:] + query[:, num_prefix:]], dim=1)


def max_pool_map(hidden_states: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Halve height and width by the maximum of 3x3 tokens, frame by frame.

    (batch, prefix + prod(grid), channels) to the same on the coarser grid.
    """
    num_prefix = hidden_states.shape[1] - math.prod(grid)
    prefix, cells = hidden_states[:, :num_prefix], hidden_states[:, num_prefix:]
    maps = to_map(cells.reshape(-1, math.prod(grid[-2:]), cells.shape[2]), grid[-2:])
    pooled = to_tokens(nn.functional.max_pool2d(maps, 3, stride=2, padding=1))
    pooled = pooled.reshape(len(cells), -1, cells.shape[2])
    return torch.cat([prefix, pooled], dim=1) if num_prefix else pooled
