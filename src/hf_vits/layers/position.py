"""Absolute position embeddings of a token grid."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import nn

from .constants import Constants
from .frozen import FrozenParameters

# How the originals resize a table to another grid: google-research/vision_transformer and big_vision by
# scipy.ndimage.zoom(order=1), which is bilinear with aligned corners; facebookresearch/deit bicubic;
# SHI-Labs/Compact-Transformers bilinear without aligned corners. Muzammal-Naseer/Intriguing-Properties-of-Vision-
# Transformers scales bicubically by a factor, whose product with the old side may round down to one position too few
# (14 * (61 / 14)): the missing row or column is zero. For one axis "bilinear" means linear, for three axes trilinear.
INTERPOLATIONS = {
    "bilinear_aligned": {"mode": "bilinear", "align_corners": True},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bicubic": {"mode": "bicubic", "align_corners": False},
    "bicubic_offset": {"mode": "bicubic", "align_corners": False},
    "bicubic_scale": {"mode": "bicubic", "align_corners": False},
    "polyharmonic_spline": {},  # google-research/vatt, for one axis; see `spline_matrix`
}
# facebookresearch/dino and methods built on it scale the grid as if each side were this many tokens longer.
OFFSET = 0.1


def interpolate_positions(
    table: torch.Tensor, old_grid: Sequence[int], new_grid: Sequence[int], interpolation: str
) -> torch.Tensor:
    """Resize a table of positions to another grid; its prefix rows are unchanged.

    Args:
        table: (1, prefix + prod(old_grid), channels).
        old_grid, new_grid: sizes along the same axes: one, (height, width), or (frames, height, width).
        interpolation: a key of `INTERPOLATIONS`; bicubic needs two axes, the spline has one.

    Returns:
        (1, prefix + prod(new_grid), channels), in the table's dtype.
    """
    if tuple(old_grid) == tuple(new_grid):
        return table
    num_prefix = table.shape[1] - math.prod(old_grid)
    prefix, grid = table[:, :num_prefix], table[:, num_prefix:]
    grid = grid.unflatten(1, old_grid).movedim(-1, 1).float()
    if interpolation == "polyharmonic_spline":
        resized = spline_matrix(*old_grid, *new_grid).to(table.device) @ grid[0].T.double()
        return torch.cat([prefix, resized[None].to(table.dtype)], dim=1)
    options = INTERPOLATIONS[interpolation]
    if options["mode"] == "bilinear":
        options = options | {"mode": ("linear", "bilinear", "trilinear")[len(new_grid) - 1]}
    if interpolation == "bicubic_offset":
        size = {"scale_factor": [(new + OFFSET) / old for new, old in zip(new_grid, old_grid, strict=True)]}
    elif interpolation == "bicubic_scale":
        size = {"scale_factor": [new / old for new, old in zip(new_grid, old_grid, strict=True)]}
    else:
        size = {"size": new_grid}
    grid = nn.functional.interpolate(grid, **size, **options)
    if interpolation == "bicubic_scale" and tuple(grid.shape[2:]) != tuple(new_grid):
        missing = [new - side for new, side in zip(new_grid, grid.shape[2:], strict=True)]
        grid = nn.functional.pad(grid, (0, missing[1], 0, missing[0]))
    return torch.cat([prefix, grid.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)


@torch.compiler.assume_constant_result
def spline_matrix(old: int, new: int) -> torch.Tensor:
    """Return the matrix (new, old), float64, that resizes a sequence by a cubic polyharmonic spline.

    Point i of n lies at i / n, so that the last points of a longer sequence are extrapolated. The kernel is
    max(r^2, 1e-10)^1.5, with a linear term (google-research/vatt, modeling/common/transformers.py,
    `ExpandableEmbedding`, with tensorflow_addons/image/interpolate_spline.py). The original solves for the kernels'
    weights in single precision, which is meaningless for more than a few dozen points.
    """
    return torch.from_numpy(solve_spline(old, new))


@cache
def solve_spline(old: int, new: int) -> np.ndarray:
    """Return the values of `spline_matrix`.

    In one dimension the kernel r^3 with a linear term is the natural cubic spline, whose second derivatives follow
    from a well-conditioned system, while the system of the kernels' weights has a condition number of 1e12 for 1,200
    points. The kernel's smallest value, at r = 0, acts on the weights as the smoothing of a smoothing spline does
    (Green and Silverman, "Nonparametric Regression and Generalized Linear Models", 1994, section 2.3, with its
    matrices Q and R).
    """
    if old == 1:
        return np.ones((new, 1))
    smallest = 1e-10**1.5
    # The original's points are in single precision.
    known, wanted = ((np.arange(size) / size).astype(np.float32).astype(np.float64) for size in (old, new))
    steps, inner = np.diff(known), np.arange(old - 2)
    slopes, overlaps = np.zeros((old, old - 2)), np.zeros((old - 2, old - 2))
    slopes[inner, inner], slopes[inner + 2, inner] = 1 / steps[:-1], 1 / steps[1:]
    slopes[inner + 1, inner] = -1 / steps[:-1] - 1 / steps[1:]
    overlaps[inner, inner] = (steps[:-1] + steps[1:]) / 3
    overlaps[inner[1:], inner[:-1]] = overlaps[inner[:-1], inner[1:]] = steps[1:-1] / 6
    curvatures = np.linalg.solve(overlaps + smallest / 12 * slopes.T @ slopes, slopes.T)
    weights = slopes @ curvatures / 12
    fitted = np.eye(old) - smallest * weights
    curvatures = np.pad(curvatures, ((1, 1), (0, 0)))  # zero at both ends
    left = np.clip(np.searchsorted(known, wanted, side="right") - 1, 0, old - 2)
    step = steps[left, None]
    after = (wanted[:, None] - known[left, None]) / step
    before = 1 - after
    cubic = np.maximum(before, 0) ** 3  # none beyond the last point, where the spline is straight
    resized = before * fitted[left] + after * fitted[left + 1]
    bent = (cubic - before) * curvatures[left] + (after**3 - after) * curvatures[left + 1]
    distances = np.abs(wanted[:, None] - known)
    raised = np.where(distances < 1e-5, smallest - distances**3, 0) @ weights
    return resized + step**2 / 6 * bent + raised


def interpolate_sequence(table: torch.Tensor, length: int) -> torch.Tensor:
    """Resize a table (1, positions, channels) linearly to (1, length, channels), in its dtype."""
    if table.shape[1] == length:
        return table
    resized = nn.functional.interpolate(table.transpose(1, 2).float(), size=length, mode="linear")
    return resized.transpose(1, 2).to(table.dtype)


def sine_cosine_positions_2d(
    grid: tuple[int, int], channels: int, temperature: float = 10000.0, include_end: bool = True
) -> torch.Tensor:
    """Return a fixed 2-d sine-cosine table (1, height * width, channels) of sin x, cos x, sin y, cos y.

    The frequencies decrease geometrically from 1 towards 1/temperature. `include_end`: whether the last frequency is
    1/temperature, as in big_vision/models/vit.py (`posemb_sincos_2d`); not so in facebookresearch/mae
    (util/pos_embed.py). Raises ValueError unless `channels` is a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"a 2-d sine-cosine table needs a hidden_size that 4 divides, got {channels}")
    count = channels // 4
    last = max(count - 1, 1) if include_end else count
    frequencies = temperature ** -(torch.arange(count, dtype=torch.float64, device="cpu") / last)
    y, x = (torch.arange(size, dtype=torch.float64, device="cpu")[:, None] * frequencies for size in grid)
    y = y[:, None].expand(-1, grid[1], -1)
    x = x[None, :].expand(grid[0], -1, -1)
    table = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=-1)
    return table.flatten(0, 1)[None].float()


class PositionEmbedding(nn.Module):
    """Learned table of positions, resized to the grid of each input.

    Args:
        grid: (height, width) of the table in tokens, or (frames, height, width), or (frames,).
        num_prefix_tokens: number of first rows for class or distillation tokens, which are not resized.
        interpolation: a key of `INTERPOLATIONS`.
    """

    def __init__(self, grid: tuple[int, ...], hidden_size: int, num_prefix_tokens: int = 0, interpolation="bicubic"):
        super().__init__()
        self.grid = grid
        self.interpolation = interpolation
        self.table = nn.Parameter(torch.zeros(1, num_prefix_tokens + math.prod(grid), hidden_size))

    def forward(self, grid: tuple[int, ...]) -> torch.Tensor:
        """Return the table resized to `grid`: (1, prefix + prod(grid), hidden_size)."""
        return interpolate_positions(self.table, self.grid, grid, self.interpolation)


class FrozenPositionEmbedding(FrozenParameters, PositionEmbedding):
    """MAE's table: 2-d sine-cosine, zero for prefix tokens; saved and resized, but not trained."""

    def initial_table(self) -> torch.Tensor:
        """Return the table's values, (1, prefix + prod(grid), hidden_size)."""
        num_prefix = self.table.shape[1] - math.prod(self.grid)
        table = sine_cosine_positions_2d(self.grid, self.table.shape[2], include_end=False)
        return nn.functional.pad(table, (0, 0, num_prefix, 0))


class SeparablePositionEmbedding(nn.Module):
    """Positions in a clip: the sum of a spatial table, the same for every frame, and a temporal table.

    The separate space-time embedding of Fan et al., MViT, arXiv 2104.11227, section 4.1; SlowFast,
    slowfast/models/video_model_builder.py. The tables are resized to the clip as SlowFast does when it loads a
    checkpoint: bicubically in space, linearly in time.

    Args:
        grid: (frames, height, width) of the tables in tokens.
        num_prefix_tokens: rows of a separate table, for class tokens.
    """

    def __init__(self, grid: tuple[int, int, int], hidden_size: int, num_prefix_tokens: int = 0):
        super().__init__()
        self.spatial = PositionEmbedding(grid[1:], hidden_size)
        self.temporal = nn.Parameter(torch.zeros(1, grid[0], hidden_size))
        has_prefix = num_prefix_tokens > 0
        self.prefix = nn.Parameter(torch.zeros(1, num_prefix_tokens, hidden_size)) if has_prefix else None

    def forward(self, grid: tuple[int, int, int]) -> torch.Tensor:
        """Return the positions (1, prefix + frames * height * width, hidden_size), frame by frame."""
        temporal, spatial = interpolate_sequence(self.temporal, grid[0]), self.spatial(grid[1:])
        table = (temporal[:, :, None] + spatial[:, None]).flatten(1, 2)
        return table if self.prefix is None else torch.cat([self.prefix, table], dim=1)


class FixedPositionEmbedding(Constants):
    """2-d sine-cosine positions, computed for the grid of each input; nothing is trained or saved."""

    table: torch.Tensor

    def __init__(self, grid: tuple[int, int], hidden_size: int):
        super().__init__()
        self.grid = grid
        self.hidden_size = hidden_size
        self.register_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        return {"table": sine_cosine_positions_2d(self.grid, self.hidden_size)}

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        """Return the table for `grid`: (1, height * width, hidden_size)."""
        if grid == self.grid:
            return self.table
        return sine_cosine_positions_2d(grid, self.hidden_size).to(self.table)


def sine_cosine_positions(num_positions: int, channels: int, precision: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a fixed 1-d table (1, num_positions, channels): sine on even channels, cosine on odd channels.

    The angle of position p and channel c is p / 10000^(2 * (c // 2) / channels), computed in double precision and
    rounded to `precision` before sine and cosine: single precision in Compact-Transformers src/utils/transformers.py
    (`sinusoidal_embedding`), double in T2T-ViT models/transformer_block.py (`get_sinusoid_encoding`).
    """
    channel = torch.arange(channels, device="cpu")
    position = torch.arange(num_positions, dtype=torch.float64, device="cpu")
    wavelengths = 10000.0 ** (2 * (channel // 2).double() / channels)
    angles = (position[:, None] / wavelengths).to(precision)
    return torch.where(channel % 2 == 0, angles.sin(), angles.cos())[None].float()


class SequencePositionEmbedding(nn.Module):
    """Learned table of positions along a sequence; a shorter sequence reads the first rows."""

    def __init__(self, num_positions: int, hidden_size: int):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, num_positions, hidden_size))

    def forward(self, length: int) -> torch.Tensor:
        """Return the first rows (1, length, hidden_size); ValueError where the table has fewer."""
        if length > self.table.shape[1]:
            raise ValueError(
                f"a sequence of {length} tokens is longer than the learned table of {self.table.shape[1]} positions: "
                'truncate it, or build the model for longer ones or with position_embedding_type="sine"'
            )
        return self.table[:, :length]


class SinePositionEmbedding(nn.Module):
    """Fixed sine-cosine table along a sequence; a shorter sequence reads the first rows, a longer one continues it.

    The table is a saved buffer, so that the rows of a checkpoint are used as they are; it is not trained.

    Args:
        num_zero_rows: number of zero rows before position 0 of the sinusoid.
    """

    table: torch.Tensor

    def __init__(self, num_positions: int, hidden_size: int, num_zero_rows: int = 0):
        super().__init__()
        self.hidden_size = hidden_size
        self.num_zero_rows = num_zero_rows
        self.register_buffer("table", self.make_table(num_positions).to(torch.get_default_dtype()))

    def make_table(self, num_positions: int) -> torch.Tensor:
        """Return the first rows of the table: (1, num_positions, hidden_size)."""
        table = sine_cosine_positions(num_positions - self.num_zero_rows, self.hidden_size)
        return nn.functional.pad(table, (0, 0, self.num_zero_rows, 0))

    def forward(self, length: int) -> torch.Tensor:
        """Return (1, length, hidden_size)."""
        num_positions = self.table.shape[1]
        if length <= num_positions:
            return self.table[:, :length]
        return torch.cat([self.table, self.make_table(length)[:, num_positions:].to(self.table)], dim=1)
