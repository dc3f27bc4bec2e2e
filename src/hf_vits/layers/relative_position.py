"""Biases on attention scores that depend on where a key lies relative to its query."""

from typing import Any

import torch
from torch import nn

from .constants import Constants
from .position import interpolate_sequence


def offsets(window: tuple[int, int]) -> torch.Tensor:
    """(tokens, tokens, 2): row and column of the query minus those of the key, tokens row by row."""
    rows, columns = (torch.arange(size, device="cpu") for size in window)
    places = torch.cartesian_prod(rows, columns).view(-1, 2)
    return places[:, None] - places[None]


class RelativePositionBias(Constants):
    """A learned bias per head and offset inside a window (Liu et al., Swin, arXiv 2103.14030, section 3.2).

    Args:
        window: (height, width) in tokens. The table has a row per offset, ((2 * height - 1) * (2 * width - 1), heads),
            with rows of offsets from lowest to highest and, inside them, columns likewise.
    """

    def __init__(self, window: tuple[int, int], num_heads: int):
        super().__init__()
        self.window = window
        self.table = nn.Parameter(torch.zeros((2 * window[0] - 1) * (2 * window[1] - 1), num_heads))
        self.register_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        height, width = self.window
        row, column = offsets(self.window).unbind(-1)
        return {"index": (row + height - 1) * (2 * width - 1) + column + width - 1}

    def forward(self) -> torch.Tensor:
        """(1, heads, tokens, tokens): the bias of every query (axis 2) on every key (axis 3)."""
        return self.table[self.index].permute(2, 0, 1)[None]


class DistanceBias(Constants):
    """A learned bias per head and distance in rows and columns, whatever the direction.

    The attention bias of Graham et al., LeViT, arXiv 2104.01136, section 4.2.

    Args:
        grid: (height, width) in tokens of the largest map. The table has a column per distance,
            (heads, height * width), row by row.
        query_stride: queries are the tokens in every so many rows and columns; keys are all tokens.
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
        """(rows of queries, columns of queries, rows of keys, columns of keys): the table's column for each pair."""
        keys = [torch.arange(size, device=device) for size in grid]
        rows, columns = ((axis[:: self.query_stride, None] - axis).abs() for axis in keys)
        return rows[:, None, :, None] * self.grid[1] + columns[None, :, None]

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        """(1, heads, queries, keys) on a map of `grid`, which is no larger than the one of the table."""
        if self.folded is not None and grid == self.grid:
            return self.folded
        index = self.index if grid == self.grid else self.column(grid, self.table.device)
        # A gather is some times faster than indexing, and more so in the backward pass.
        biases = self.table.gather(1, index.flatten().expand(len(self.table), -1))
        return biases.view(1, len(self.table), -1, grid[0] * grid[1])

    @torch.no_grad()
    def fold(self) -> None:
        """Keep the bias on the largest map, as its weights now are, so that `forward` need not look it up."""
        self.folded = self(self.grid)


class DecomposedRelativePositions(Constants):
    """Learned vectors for the offsets along each axis, which queries meet: their products add to the scores.

    Li et al., MViTv2, arXiv 2112.01526, section 4.1. The score of a query on a key gains, for every axis, the product
    of the query with the vector of the offset between the two along that axis.

    Args:
        query_grid, key_grid: sizes of the maps that are expected, along each axis; others work too.
        table_sizes: rows of the table of each axis; it is resized to twice the longer of the two maps, less one.
    """

    coordinates: torch.Tensor

    def __init__(
        self, query_grid: tuple[int, ...], key_grid: tuple[int, ...], table_sizes: tuple[int, ...], head_size: int
    ):
        super().__init__()
        self.query_grid = query_grid
        self.key_grid = key_grid
        self.tables = nn.ParameterList(nn.Parameter(torch.zeros(size, head_size)) for size in table_sizes)
        self.register_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        sizes = enumerate(zip(self.query_grid, self.key_grid, strict=True))
        offsets = {f"offsets_{axis}": stretched_offsets(*pair, device="cpu") for axis, pair in sizes}
        return {**offsets, "coordinates": one_hot_coordinates(self.key_grid, device="cpu")}

    def forward(
        self, query: torch.Tensor, query_grid: tuple[int, ...], key_grid: tuple[int, ...]
    ) -> list[torch.Tensor]:
        """What queries (batch, heads, queries, head_size) add to their scores, apart for every axis.

        Returns:
            For every axis (batch, heads, queries, size of the key's map along it), by the key's place on it.
        """
        expected = (query_grid, key_grid) == (self.query_grid, self.key_grid)
        maps, terms = query.unflatten(2, query_grid), []
        for axis, (table, sizes) in enumerate(zip(self.tables, zip(query_grid, key_grid, strict=True), strict=True)):
            offsets = getattr(self, f"offsets_{axis}") if expected else stretched_offsets(*sizes, table.device)
            table = interpolate_sequence(table[None], 2 * max(sizes) - 1)[0]
            vectors = nn.functional.embedding(offsets, table)
            # One product per place of the queries on this axis.
            places = maps.movedim(axis + 2, 0)
            products = torch.matmul(places.flatten(1, -2), vectors.transpose(1, 2)).unflatten(1, places.shape[1:-1])
            terms.append(products.movedim(0, axis + 2).flatten(2, -2))
        return terms

    def key_coordinates(self, key_grid: tuple[int, ...]) -> torch.Tensor:
        """(keys, sum of the sizes of their map): for every axis in turn, 1 at the key's place on it, else 0."""
        if key_grid == self.key_grid:
            return self.coordinates
        return one_hot_coordinates(key_grid, self.coordinates.device).to(self.coordinates.dtype)


def stretched_offsets(num_queries: int, num_keys: int, device: torch.device | str) -> torch.Tensor:
    """How far each query (axis 0) lies from each key (axis 1) in steps of the finer of both, the lowest counted as 0.

    The coarser is stretched in single precision and the result cut off to whole numbers, which on maps of odd sizes is
    not always what exact arithmetic gives: as cal_rel_pos_spatial in the originals' mvit/models/attention.py.
    """
    stretch = max(num_queries / num_keys, 1.0)
    query = torch.arange(num_queries, dtype=torch.float32, device=device) * max(num_keys / num_queries, 1.0)
    key = torch.arange(num_keys, dtype=torch.float32, device=device) * stretch
    return (query[:, None] - key + (num_keys - 1) * stretch).long()


def one_hot_coordinates(grid: tuple[int, ...], device: torch.device | str) -> torch.Tensor:
    """(cells, sum of sizes): the one-hot coordinate of every cell along every axis, side by side."""
    places = torch.cartesian_prod(*(torch.arange(size, device=device) for size in grid)).unbind(-1)
    one_hot = [place[:, None] == torch.arange(size, device=device) for place, size in zip(places, grid, strict=True)]
    return torch.cat(one_hot, dim=1).float()


def sum_over_axes(terms: list[torch.Tensor], key_grid: tuple[int, ...]) -> torch.Tensor:
    """The terms of `DecomposedRelativePositions` as one bias (batch, heads, queries, keys)."""
    bias: Any = 0.0
    for axis, term in enumerate(terms):
        ones = [1] * len(key_grid)
        bias = bias + term.unflatten(-1, (*ones[:axis], key_grid[axis], *ones[axis + 1 :]))
    return bias.flatten(3)
