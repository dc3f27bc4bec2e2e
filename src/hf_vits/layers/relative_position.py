"""Relative position biases on attention scores."""

from typing import Any

import torch
from torch import nn

from .constants import Constants
from .position import interpolate_sequence


class RelativePositionBias(Constants):
    """Learned bias per head and offset inside a window (Liu et al., Swin, arXiv 2103.14030, section 3.2).

    Args:
        window: (height, width) in tokens. The table, ((2 * height - 1) * (2 * width - 1), heads), has a row for each
            offset, ordered by row offset and then by column offset, from lowest to highest.
    """

    def __init__(self, window: tuple[int, int], num_heads: int):
        super().__init__()
        self.window = window
        self.table = nn.Parameter(torch.zeros((2 * window[0] - 1) * (2 * window[1] - 1), num_heads))
        self.register_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        height, width = self.window
        places = [torch.arange(size, device="cpu") for size in self.window]
        row, column = (axis[:, None] - axis + len(axis) - 1 for axis in places)
        index = row[:, None, :, None] * (2 * width - 1) + column[None, :, None]
        return {"index": index.view(height * width, height * width)}

    def forward(self) -> torch.Tensor:
        """Return the bias of every query on every key, (1, heads, queries, keys)."""
        return self.table[self.index].permute(2, 0, 1)[None]


class ClassTokenPositionBias(RelativePositionBias):
    """`RelativePositionBias` of the patches of a whole image and a class token before them (BEiT, arXiv 2106.08254).

    Args:
        window: (height, width) of the image in patches. The table has three more rows at the end: for the class token
            on patches, for patches on the class token, and for the class token on itself.
    """

    def __init__(self, window: tuple[int, int], num_heads: int):
        super().__init__(window, num_heads)
        self.table = nn.Parameter(torch.zeros(len(self.table) + 3, num_heads))

    def constants(self) -> dict[str, torch.Tensor]:
        index, num_offsets = super().constants()["index"], (2 * self.window[0] - 1) * (2 * self.window[1] - 1)
        index = nn.functional.pad(index, (1, 0, 1, 0))
        index[0], index[1:, 0], index[0, 0] = num_offsets, num_offsets + 1, num_offsets + 2
        return {"index": index}


class DistanceBias(Constants):
    """Learned bias per head and absolute distance in rows and columns.

    The attention bias of Graham et al., LeViT, arXiv 2104.01136, section 4.2.

    Args:
        grid: (height, width) in tokens of the largest feature map. The table, (heads, height * width), has a column
            for each distance, in row-major order.
        query_stride: queries are the tokens of every `query_stride`-th row and column; keys are all tokens.
    """

    index: torch.Tensor
    folded: torch.Tensor | None

    def __init__(self, grid: tuple[int, int], num_heads: int, query_stride: int = 1):
        super().__init__()
        self.grid = grid
        self.query_stride = query_stride
        self.table = nn.Parameter(torch.zeros(num_heads, grid[0] * grid[1]))
        self.register_buffer("folded", None, persistent=False)
        self.register_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        return {"index": self.column(self.grid, "cpu")}

    def column(self, grid: tuple[int, int], device: torch.device | str) -> torch.Tensor:
        """Return the table's column for each pair: (query rows, query columns, key rows, key columns)."""
        keys = [torch.arange(size, device=device) for size in grid]
        rows, columns = ((axis[:: self.query_stride, None] - axis).abs() for axis in keys)
        return rows[:, None, :, None] * self.grid[1] + columns[None, :, None]

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        """Return the bias (1, heads, queries, keys) on a feature map of `grid`, no larger than the table's grid."""
        if self.folded is not None and grid == self.grid:
            return self.folded
        index = self.index if grid == self.grid else self.column(grid, self.table.device)
        # gather is several times faster than indexing, most of all in the backward pass.
        biases = self.table.gather(1, index.flatten().expand(len(self.table), -1))
        return biases.view(1, len(self.table), -1, grid[0] * grid[1])

    @torch.no_grad()
    def fold(self) -> None:
        """Store the bias on the largest feature map, so that `forward` need not look it up in the table."""
        self.folded = self(self.grid)


class AxisTables(nn.ParameterList):
    """A table of vectors for each axis, (offsets, head_size)."""

    __call__ = nn.Module.__call__  # which `nn.ParameterList` disables

    def forward(self, offsets: list[torch.Tensor], sizes: list[int]) -> list[torch.Tensor]:
        """Return each axis's vectors (queries, keys, head_size).

        Args:
            offsets: for each axis the table's row for each query and key, (queries, keys).
            sizes: number of rows that each table is resized to.
        """
        tables = [interpolate_sequence(table[None], size)[0] for table, size in zip(self, sizes, strict=True)]
        return [nn.functional.embedding(rows, table) for rows, table in zip(offsets, tables, strict=True)]


class DecomposedRelativePositions(Constants):
    """Decomposed relative positions: a learned vector for each offset along each axis.

    Li et al., MViTv2, arXiv 2112.01526, section 4.1. For every axis, the dot product of the query with the vector of
    the offset between query and key is added to the attention score.

    Args:
        query_grid, key_grid: expected grids of queries and keys; other grids work too.
        table_sizes: number of rows of each axis's table, which is resized to 2 * max(query size, key size) - 1.
    """

    coordinates: torch.Tensor

    def __init__(
        self, query_grid: tuple[int, ...], key_grid: tuple[int, ...], table_sizes: tuple[int, ...], head_size: int
    ):
        super().__init__()
        self.query_grid = query_grid
        self.key_grid = key_grid
        self.tables = AxisTables(nn.Parameter(torch.zeros(size, head_size)) for size in table_sizes)
        self.register_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        sizes = enumerate(zip(self.query_grid, self.key_grid, strict=True))
        offsets = {f"offsets_{axis}": stretched_offsets(*pair, device="cpu") for axis, pair in sizes}
        return {**offsets, "coordinates": one_hot_coordinates(self.key_grid, device="cpu")}

    def forward(
        self, query: torch.Tensor, query_grid: tuple[int, ...], key_grid: tuple[int, ...]
    ) -> list[torch.Tensor]:
        """Return the terms of the scores for queries (batch, heads, queries, head_size), one for each axis.

        Returns:
            For each axis (batch, heads, queries, key size along the axis), indexed by the key's coordinate.
        """
        expected = (query_grid, key_grid) == (self.query_grid, self.key_grid)
        sizes = list(zip(query_grid, key_grid, strict=True))
        if expected:
            offsets = [getattr(self, f"offsets_{axis}") for axis in range(len(sizes))]
        else:
            offsets = [stretched_offsets(*pair, query.device) for pair in sizes]
        maps, terms = query.unflatten(2, query_grid), []
        for axis, vectors in enumerate(self.tables(offsets, [2 * max(pair) - 1 for pair in sizes])):
            # One matrix product per coordinate of the queries on this axis. Written with reshapes and matmul,
            # onnxscript 0.7.2 would rewrite it wrongly where that axis is as long as there are heads.
            axes = "rst"[: len(query_grid)]
            terms.append(torch.einsum(f"bh{axes}d,{axes[axis]}kd->bh{axes}k", maps, vectors).flatten(2, -2))
        return terms

    def key_coordinates(self, key_grid: tuple[int, ...]) -> torch.Tensor:
        """Return the keys' one-hot coordinates along all axes, concatenated: (keys, sum(key_grid))."""
        if key_grid == self.key_grid:
            return self.coordinates
        return one_hot_coordinates(key_grid, self.coordinates.device).to(self.coordinates.dtype)


def stretched_offsets(num_queries: int, num_keys: int, device: torch.device | str) -> torch.Tensor:
    """Return the offset of each query (axis 0) from each key (axis 1), in steps of the finer grid, from 0 upwards.

    The coarser grid is stretched in single precision and the offsets are truncated to integers, as in
    `cal_rel_pos_spatial` of the originals' mvit/models/attention.py. For odd sizes exact arithmetic can differ.
    """
    stretch = max(num_queries / num_keys, 1.0)
    query = torch.arange(num_queries, dtype=torch.float32, device=device) * max(num_keys / num_queries, 1.0)
    key = torch.arange(num_keys, dtype=torch.float32, device=device) * stretch
    return (query[:, None] - key + (num_keys - 1) * stretch).long()


def one_hot_coordinates(grid: tuple[int, ...], device: torch.device | str) -> torch.Tensor:
    """Return the one-hot coordinates of every cell along all axes, concatenated: (cells, sum(grid))."""
    places = torch.cartesian_prod(*(torch.arange(size, device=device) for size in grid)).unbind(-1)
    one_hot = [place[:, None] == torch.arange(size, device=device) for place, size in zip(places, grid, strict=True)]
    return torch.cat(one_hot, dim=1).float()


def sum_over_axes(terms: list[torch.Tensor], key_grid: tuple[int, ...]) -> torch.Tensor:
    """Return the sum of the terms of `DecomposedRelativePositions` as a bias (batch, heads, queries, keys)."""
    bias: Any = 0.0
    for axis, term in enumerate(terms):
        ones = [1] * len(key_grid)
        bias = bias + term.unflatten(-1, (*ones[:axis], key_grid[axis], *ones[axis + 1 :]))
    return bias.flatten(3)
