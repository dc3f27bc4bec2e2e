"""Propagation of labels through a video by the similarity of dense features, without training.

Alxead/SFC (code/test_vos.py, code/utils/test_utils.py), after ajabri/videowalk (CRW, arXiv 2006.14613). Each cell of a
frame takes the labels of the most similar cells of earlier frames.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

TILE = 16  # side of the squares of cells that are compared at a time
FAR = -1e10  # added to similarities of cells outside the radius


class Affinities(NamedTuple):
    """The most similar cells of the context frames.

    weights: (cells, k), softmax over the k similarities.
    indices: (cells, k), context * cells + cell.
    """

    weights: Tensor
    indices: Tensor


@dataclass(frozen=True)
class LabelPropagation:
    """Propagates soft labels from the first frame of a video through all others.

    Before the clip there are `num_context` copies of its first frame. The contexts of a frame are the long-term
    frames and the `num_context` frames before it. The defaults are SFC's for one network; for fused features they are
    topk=15, temperature=0.1 and radius=15.

    Attributes:
        num_context: number of frames before a frame that give it labels.
        topk: number of cells, of all contexts together, that give a cell its labels.
        temperature: divides similarities.
        radius: distance in cells that a label moves at most, exclusive; None for any. Long-term frames have no radius.
        long_term: 0 for the first frame; t > 0 for frame t + 1, once `num_context` + t frames have passed, as in the
            original, and the first frame until then.
        rescale: whether the labels of each cell are stretched to reach from 0 to 1 in what is returned (the original's
            `norm_mask`); the labels that are propagated stay as they are, but for the long-term first frame.
    """

    num_context: int = 20
    topk: int = 10
    temperature: float = 0.05
    radius: float | None = 12
    long_term: Sequence[int] = (0,)
    rescale: bool = False

    def __post_init__(self):
        for name in ("num_context", "topk", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {name}={getattr(self, name)}")
        if self.radius is not None and not self.radius > 0:
            raise ValueError(f"radius must be positive, or None for none, got radius={self.radius}")

    @torch.no_grad()
    def __call__(self, features: Iterable[Tensor], labels: Tensor) -> Tensor:
        """Return the soft labels of every frame, (frames, classes, rows, columns); the first is given.

        Args:
            features: (channels, rows, columns) of each frame in order, of length 1 over the channels: a tensor, or
                an iterator, of which no more frames are kept than are needed.
            labels: of the first frame, (classes, rows, columns).

        Raises:
            ValueError: labels and features have other grids, or there are no frames.
        """
        cells: dict[int, Tensor] = {}
        known: dict[int, Tensor] = {}
        results = []
        kept = {0, *(time + 1 for time in self.long_term if time)}
        for frame, feature_map in enumerate(features):
            grid = feature_map.shape[1:]
            if tuple(labels.shape[1:]) != tuple(grid):
                raise ValueError(
                    f"labels must be (classes, {grid[0]}, {grid[1]}), on the grid of the features, got "
                    f"{tuple(labels.shape)}"
                )
            cells[frame] = feature_map.permute(1, 2, 0).contiguous()
            known[frame] = self.predict(frame, cells, known) if frame else labels.to(feature_map).flatten(1).T
            results.append(stretch(known[frame]) if self.rescale else known[frame])
            if (passed := frame - self.num_context) not in kept:
                cells.pop(passed, None)
                known.pop(passed, None)
        if not results:
            raise ValueError("expected the features of at least one frame, got none")
        return torch.stack(results).transpose(1, 2).unflatten(2, grid)

    def predict(self, frame: int, cells: dict[int, Tensor], known: dict[int, Tensor]) -> Tensor:
        """Return the labels (cells, classes) of a frame from the features and labels of the frames before it."""
        long_term, window, repeats = self.contexts(frame)
        query = cells[frame]
        affinities = similar_cells(
            query,
            [cells[context] for context in (*long_term, *window)],
            self.topk,
            self.temperature,
            self.radius,
            len(long_term),
            [1] * len(long_term) + repeats,
            max(query.shape[:2]) if self.rescale else TILE,
        )
        sources = [known[context] for context in (*long_term, *window)]
        if self.rescale:
            sources = [
                stretch(source) if place < len(long_term) and long_term[place] == 0 else source
                for place, source in enumerate(sources)
            ]
        candidates = torch.cat(sources)
        predicted = torch.zeros_like(known[0])
        for weight, index in zip(affinities.weights.T, affinities.indices.T, strict=True):
            predicted.addcmul_(weight[:, None], candidates[index])
        return predicted

    def contexts(self, frame: int) -> tuple[list[int], list[int], list[int]]:
        """Return the long-term frames of a frame, those of its window, and how often each of the window occurs.

        Copies of the first frame are as similar as one another, and with `rescale` not all have the same labels.
        Which of them are among the k is then as in the original, where every copy is a context of its own.
        """
        numbers = [
            max(number - self.num_context, 0) for number in context_frames(frame, self.num_context, self.long_term)
        ]
        long_term, window = numbers[: len(self.long_term)], numbers[len(self.long_term) :]
        if self.rescale:
            return long_term, window, [1] * len(window)
        counts = Counter(window)
        return long_term, list(counts), list(counts.values())


def stretch(labels: Tensor) -> Tensor:
    """Return labels (cells, classes) whose smallest class is 0 and whose largest is 1, in each cell."""
    labels = labels - labels.amin(dim=1, keepdim=True)
    return labels / labels.amax(dim=1, keepdim=True)


def context_frames(frame: int, num_context: int, long_term: Sequence[int] = (0,)) -> list[int]:
    """Return the contexts of a frame: one for each long-term frame, then those of the window.

    Frames are numbered in the padded clip, where `num_context` copies of the first frame come first: number n is
    frame max(n - num_context, 0) of the clip.
    """
    lasting = [time + num_context + 1 if time > 0 and frame > num_context + time else 0 for time in long_term]
    return [*lasting, *range(frame, frame + num_context)]


def fuse_features(fine: Tensor, semantic: Tensor, weight: float = 1.75) -> Tensor:
    """Return features of two encoders as one, of length 1: the fine-grained ones count `weight` times as much.

    Args:
        fine, semantic: (frames, channels, rows, columns), of one grid.

    Raises:
        ValueError: the grids differ.
    """
    if fine.shape[0] != semantic.shape[0] or fine.shape[2:] != semantic.shape[2:]:
        raise ValueError(
            "features to fuse must be of the same frames and grid, got "
            f"{tuple(fine.shape)} and {tuple(semantic.shape)}: use encoders of the same stride"
        )
    return normalize(torch.cat([weight * normalize(fine, dim=1), normalize(semantic, dim=1)], dim=1), dim=1)


def neighbourhood(grid: tuple[int, int], radius: float) -> Tensor:
    """Return which cells of a grid are closer than `radius` to one another, (cells, cells) of bool."""
    positions = Rectangle(range(grid[0]), range(grid[1])).positions()
    return near(positions, positions, radius)


def near(positions: Tensor, others: Tensor, radius: float) -> Tensor:
    """Return which of two sets of positions (cells, 2) are closer than `radius`, (cells, others) of bool."""
    squared = ((positions[:, None] - others[None]) ** 2).sum(dim=-1)
    return squared.sqrt() < radius


def top_affinities(
    query: Tensor,
    keys: Tensor,
    topk: int,
    temperature: float,
    radius: float | None,
    num_unrestricted: int = 1,
) -> Affinities:
    """Return, for each cell of a frame, the most similar cells of all context frames.

    Args:
        query: features of the frame, (channels, rows, columns).
        keys: features of the contexts, (contexts, channels, rows, columns).
        topk, temperature, radius: as in `LabelPropagation`.
        num_unrestricted: number of first contexts that have no radius.
    """
    contexts = list(keys.permute(0, 2, 3, 1).contiguous())
    cells = query.permute(1, 2, 0).contiguous()
    return similar_cells(cells, contexts, topk, temperature, radius, num_unrestricted, [1] * len(contexts))


def similar_cells(
    query: Tensor,
    contexts: Sequence[Tensor],
    topk: int,
    temperature: float,
    radius: float | None,
    num_unrestricted: int,
    repeats: Sequence[int],
    side: int = TILE,
) -> Affinities:
    """Return the most similar cells, see `top_affinities`, of features (rows, columns, channels).

    Squares of cells are compared with the cells of each context that can be near enough; the similarities of a frame
    to all its contexts never exist at once.

    Args:
        repeats: how often each context counts among the k, as copies of it would.
        side: of the squares.
    """
    rows, columns = query.shape[:2]
    reach = max(rows, columns) if radius is None else int(radius)
    weights, indices, places = [], [], []
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            tile_rows, tile_columns = range(top, min(top + side, rows)), range(left, min(left + side, columns))
            tile = Rectangle(tile_rows, tile_columns)
            window = Rectangle(
                range(max(top - reach, 0), min(tile_rows.stop + reach, rows)),
                range(max(left - reach, 0), min(tile_columns.stop + reach, columns)),
            )
            found = similar_to_tile(
                query, contexts, tile, window, topk, temperature, radius, num_unrestricted, repeats
            )
            weights.append(found.weights)
            indices.append(found.indices)
            places.append(tile.numbers(columns))
    order = torch.cat(places).argsort().to(query.device)
    return Affinities(torch.cat(weights)[order], torch.cat(indices)[order])


class Rectangle(NamedTuple):
    """A rectangle of a grid of cells."""

    rows: range
    columns: range

    def of(self, cells: Tensor) -> Tensor:
        """Return the part (cells of the rectangle, channels) of features (rows, columns, channels)."""
        return cells[self.rows.start : self.rows.stop, self.columns.start : self.columns.stop].flatten(0, 1)

    def numbers(self, columns: int) -> Tensor:
        """Return the numbers of the cells in a grid with so many columns, row by row."""
        return (torch.tensor(self.rows)[:, None] * columns + torch.tensor(self.columns)).flatten()

    def positions(self) -> Tensor:
        """Return the (row, column) of the cells, (cells, 2) of float."""
        return torch.cartesian_prod(torch.tensor(self.rows), torch.tensor(self.columns)).float()


def similar_to_tile(
    query: Tensor,
    contexts: Sequence[Tensor],
    tile: Rectangle,
    window: Rectangle,
    topk: int,
    temperature: float,
    radius: float | None,
    num_unrestricted: int,
    repeats: Sequence[int],
) -> Affinities:
    """Return the most similar cells for the cells of one tile; the other arguments are those of `similar_cells`."""
    rows, columns = query.shape[:2]
    whole = Rectangle(range(rows), range(columns))
    parts = [whole] * num_unrestricted + [window] * (len(contexts) - num_unrestricted)
    numbers = torch.cat([part.numbers(columns) + context * rows * columns for context, part in enumerate(parts)])
    queries = tile.of(query)
    scores = queries.new_empty(len(queries), len(numbers))
    blocks = scores.split([len(part.rows) * len(part.columns) for part in parts], dim=1)
    far = None
    if radius is not None:
        far = FAR * (~near(tile.positions(), window.positions(), radius)).to(scores)
    for number, (context, part, block) in enumerate(zip(contexts, parts, blocks, strict=True)):
        similarities = queries @ part.of(context).T
        if far is not None and number >= num_unrestricted:
            similarities += far
        block.copy_(similarities)
    best, chosen = scores.div_(temperature).topk(min(topk, scores.shape[1]), dim=1)
    indices = numbers.to(chosen.device)[chosen]
    # A context that counts several times fills as many of the k places, the last ones only in part.
    copies = torch.tensor(repeats, device=best.device)[indices // (rows * columns)]
    free = topk - (copies.cumsum(dim=1) - copies)
    counts = torch.minimum(copies, free).clamp(min=0)
    weights = (best + counts.to(best.dtype).log()).softmax(dim=1)
    return Affinities(weights, indices)
