"""Pooling attention: queries, keys and values are downsampled before attention.

Fan et al., MViT, arXiv 2104.11227, section 3.1; Li et al., MViTv2, arXiv 2112.01526, section 4.1. Feature maps have
two axes, (height, width), or three, (frames, height, width). Prefix tokens, such as a class token, come before their
tokens.
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
    """Return the grid after pooling with an odd kernel and half of it as padding: sizes divided and rounded up."""
    return tuple(-(-size // step) for size, step in zip(grid, stride, strict=True))


class Pooling(NamedTuple):
    """Kernel size and stride of a pooling, along each axis."""

    kernel_size: Grid
    stride: Grid


class HeadPooling(nn.Module):
    """Pooling of the feature map of each head: a depth-wise convolution, shared by the heads, then layer norm.

    "Head" is any group of channels: `head_size` of them, all in one group where no two share a kernel.

    Prefix tokens skip the convolution, but not the norm.
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
        """Pool (batch, heads, prefix + prod(grid), head_size); also returns the pooled grid."""
        num_prefix = states.shape[2] - math.prod(grid)
        maps = to_map(states[:, :, num_prefix:].flatten(0, 1), grid)
        if maps.dtype == torch.bfloat16 and len(grid) == 3 and grid[0] < self.convolution.kernel_size[0]:
            # In channels-last order PyTorch 2.14.1 returns wrong or NaN weight gradients on CPUs for so few frames,
            # see findings/bfloat16_depthwise_conv3d_few_frames.sh.
            maps = maps.contiguous()
        pooled = to_tokens(self.convolution(maps)).unflatten(0, states.shape[:2])
        if num_prefix:
            pooled = torch.cat([states[:, :, :num_prefix], pooled], dim=2)
        return self.norm(pooled), pooled_grid(grid, self.stride)


class PoolingAttention(Attention):
    """Attention of pooled queries to pooled keys and values.

    Args:
        config: has `qkv_bias`, and names the attention implementation (`_attn_implementation`).
        input_size, hidden_size: channels of input and output tokens.
        query_pooling, key_value_pooling: None for no pooling.
        eps: epsilon of the norms after pooling.
        positions: relative positions on the pooled grids or windows; None for none.
        residual: whether the pooled queries, except prefix tokens, are added to the result.
        pool_first: "heads", "channels" or None, see `MvitConfig`.
        windows: sides of the windows of queries and of keys, for attention inside windows; None for global attention.
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
        pool_first: str | None = None,
        windows: tuple[int, int] | None = None,
    ):
        head_size = hidden_size // num_heads
        super().__init__(config, head_size**-0.5)
        self.num_heads = num_heads
        self.residual = residual
        self.pool_first = pool_first
        self.windows = windows
        if pool_first is None:
            self.qkv, pooled_size = nn.Linear(input_size, 3 * hidden_size, config.qkv_bias), head_size
        else:
            self.query, self.key, self.value = (nn.Linear(input_size, hidden_size, config.qkv_bias) for _ in range(3))
            self.num_pooled_groups = num_heads if pool_first == "heads" else 1
            pooled_size = input_size // self.num_pooled_groups
        self.query_pooling = None if query_pooling is None else HeadPooling(pooled_size, query_pooling, eps)
        self.key_pooling = None if key_value_pooling is None else HeadPooling(pooled_size, key_value_pooling, eps)
        self.value_pooling = None if key_value_pooling is None else HeadPooling(pooled_size, key_value_pooling, eps)
        self.positions = positions
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor, grid: Grid, **kwargs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute pooling attention.

        Args:
            hidden_states: (batch, prefix + prod(grid), input_size).
            grid: sizes of the feature map.

        Returns:
            (batch, prefix + pooled grid of the queries, hidden_size), and the probabilities, None unless the
            implementation is eager: (batch, heads, queries, keys), with windows (batch * heads * windows, 1, queries,
            keys).
        """
        if self.pool_first is None:
            states = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1)).transpose(1, 3).unbind(2)
        else:
            states = [hidden_states.unflatten(-1, (self.num_pooled_groups, -1)).transpose(1, 2)] * 3
        query, query_grid = pool(self.query_pooling, states[0], grid)
        key, key_grid = pool(self.key_pooling, states[1], grid)
        value, _ = pool(self.value_pooling, states[2], grid)
        if self.pool_first is not None:
            query, key = self.project(self.query, query), self.project(self.key, key)
            value = self.project(self.value, value)
        mix = self.mix if self.windows is None else self.mix_in_windows
        attended, probabilities = mix(query, key, value, query_grid, key_grid, **kwargs)
        if self.residual:
            attended = add_queries(attended, query.transpose(1, 2), query.shape[2] - math.prod(query_grid))
        return self.projection(attended.flatten(2)), probabilities

    def project(self, projection: nn.Linear, pooled: torch.Tensor) -> torch.Tensor:
        """Map pooled groups of channels (batch, groups, tokens, size) to (batch, heads, tokens, head_size)."""
        return projection(pooled.transpose(1, 2).flatten(2)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def mix(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, query_grid: Grid, key_grid: Grid, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, heads, tokens, head_size) to (batch, queries, heads, head_size), and probabilities."""
        if self.positions is None:
            return attend(self, query, key, value, **kwargs)
        num_prefix, head_size = query.shape[2] - math.prod(query_grid), query.shape[3]
        terms = self.positions(query[:, :, num_prefix:], query_grid, key_grid)
        if self.adds_bias(query):
            bias = nn.functional.pad(sum_over_axes(terms, key_grid), (num_prefix, 0, num_prefix, 0))
            return attend(self, query, key, value, bias, **kwargs)
        # Extra channels of queries and keys add the same to the scores; fused attention then needs no bias tensor.
        coordinates = self.positions.key_coordinates(key_grid).to(key.dtype) / self.scaling
        coordinates = nn.functional.pad(coordinates, (0, 0, num_prefix, 0)).expand(*key.shape[:2], -1, -1)
        terms = nn.functional.pad(torch.cat(terms, dim=-1), (0, 0, num_prefix, 0))
        query, key = torch.cat([query, terms], dim=-1), torch.cat([key, coordinates], dim=-1)
        value = nn.functional.pad(value, (0, terms.shape[-1]))
        attended, _ = attend(self, query, key, value, **kwargs)
        return attended[..., :head_size], None

    def adds_bias(self, query: torch.Tensor) -> bool:
        """Return whether relative positions are passed as a bias (queries, keys), not as extra channels.

        On the CPU, fused attention is faster with a bias than with extra channels, but gives the bias no gradient.
        """
        implementation = self.config._attn_implementation
        on_cpu = query.device.type == "cpu" and not torch.is_grad_enabled()
        return implementation == "eager" or (implementation == "sdpa" and on_cpu)

    def mix_in_windows(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, query_grid: Grid, key_grid: Grid, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute attention as `mix`, in each window separately."""
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
    """Cut (batch, heads, tokens, head_size) into windows (batch * heads * windows, 1, tokens, head_size).

    Also returns the padded grid.
    """
    padded = pad_to_windows(states.flatten(0, 1).unflatten(1, grid), window)
    return partition(padded, window)[:, None], tuple(padded.shape[1:3])


def add_queries(attended: torch.Tensor, query: torch.Tensor, num_prefix: int) -> torch.Tensor:
    """Add queries to attended values, both (batch, tokens, heads, head_size), except for the prefix tokens."""
    if not num_prefix:
        return attended + query
    return torch.cat([attended[:, :num_prefix], attended[:, num_prefix:] + query[:, num_prefix:]], dim=1)


def max_pool_map(hidden_states: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Max-pool the tokens of each frame with kernel 3 and stride 2; prefix tokens are unchanged.

    Maps (batch, prefix + prod(grid), channels) to (batch, prefix + prod(pooled grid), channels).
    """
    num_prefix = hidden_states.shape[1] - math.prod(grid)
    prefix, cells = hidden_states[:, :num_prefix], hidden_states[:, num_prefix:]
    maps = to_map(cells.reshape(-1, math.prod(grid[-2:]), cells.shape[2]), grid[-2:])
    pooled = to_tokens(nn.functional.max_pool2d(maps, 3, stride=2, padding=1))
    pooled = pooled.reshape(cells.shape[0], -1, cells.shape[2])
    return torch.cat([prefix, pooled], dim=1) if num_prefix else pooled
