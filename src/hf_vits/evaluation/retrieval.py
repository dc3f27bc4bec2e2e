"""Retrieval among clips, sounds and texts by the similarity of their embeddings."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize


def groups_of_different(names: Sequence[str], size: int) -> np.ndarray:
    """Divide items into groups in which all names differ, (groups, size), of indices.

    The first items of all names are divided into groups, then the second items, and so on; what fills no group is left
    out. All items of an empty name count as different from each other.

    Args:
        names: name of each item, such as the caption of a clip.

    Raises:
        ValueError: no group can be made.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        places[name or f"\0{index}"].append(index)
    groups = []
    for number in range(max(map(len, places.values()), default=0)):
        row = [items[number] for items in places.values() if len(items) > number]
        groups += [row[start : start + size] for start in range(0, len(row) - size + 1, size)]
    if not groups:
        raise ValueError(f"retrieval needs {size} items of different names, got {len(places)} names of {len(names)}")
    return np.asarray(groups)


def similarities(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine similarities (n, m) of embeddings (n, channels) and (m, channels)."""
    return normalize(first.float(), dim=-1) @ normalize(second.float(), dim=-1).T


def recall(queries: Tensor, items: Tensor, groups: np.ndarray) -> float:
    """Return the fraction of queries whose own item is the most similar of its group (recall@1).

    Args:
        queries, items: embeddings (n, channels), of which those at the same index belong together.
        groups: (groups, size), indices.
    """
    chosen = torch.as_tensor(groups, device=queries.device)
    found = [similarities(queries[group], items[group]).argmax(dim=1) for group in chosen]
    right = torch.arange(chosen.shape[1], device=queries.device)
    return float((torch.stack(found) == right).float().mean())


def ranked_average_precision(ranks: np.ndarray, positives: np.ndarray, ignored: np.ndarray) -> float:
    """Return the average precision of a query, by trapezoids under precision over recall; NaN without positives.

    The protocol of revisited Oxford and Paris (Radenovic et al., arXiv 1803.11285): ignored images ahead of a positive
    do not count in its rank.

    Args:
        ranks: (images,), indices of the images, the most similar first.
        positives, ignored: (images,) bool, by image.
    """
    if not positives.any():
        return float("nan")
    kept = ranks[~ignored[ranks]]
    places = np.flatnonzero(positives[kept])
    numbers = np.arange(len(places))
    before = np.where(places == 0, 1.0, numbers / np.maximum(places, 1))
    after = (numbers + 1) / (places + 1)
    return float(((before + after) / 2).sum() / positives.sum())


def precision_at(ranks: np.ndarray, positives: np.ndarray, ignored: np.ndarray, k: int) -> float:
    """Return the precision among the first k images, or up to the last positive where that is earlier; NaN without."""
    if not positives.any():
        return float("nan")
    places = np.flatnonzero(positives[ranks[~ignored[ranks]]]) + 1
    last = min(places.max(), k)
    return float((places <= last).sum() / last)


def retrieval_map(
    ranks: np.ndarray, positives: np.ndarray, ignored: np.ndarray, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float | np.ndarray]:
    """Return `map`, `average_precision` (queries,) and `precision_at_k` (ks,) of many queries.

    Queries without positives are NaN and left out of the means.

    Args:
        ranks: (images, queries), see `ranked_average_precision`.
        positives, ignored: (queries, images) bool.
    """
    columns = list(zip(ranks.T, positives, ignored, strict=True))
    precision = np.array([ranked_average_precision(*column) for column in columns])
    at = np.array([[precision_at(*column, k) for k in ks] for column in columns])
    return {
        "map": float(np.nanmean(precision)),
        "average_precision": precision,
        "precision_at_k": np.nanmean(at, axis=0),
    }
