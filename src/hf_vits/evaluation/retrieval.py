"""Retrieval by the similarity of embeddings: among clips, sounds and texts, and of images by the ROxford protocol."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

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


@dataclass
class Retrieved:
    """Measures of retrieval over queries.

    mean_average_precision: over the queries that have positives, from 0 to 1.
    average_precision: (queries,), NaN for those without positives.
    precision: {k: mean fraction of positives among the first k}.
    """

    mean_average_precision: float
    average_precision: np.ndarray
    precision: dict[int, float]


PROTOCOLS = {"easy": ((1,), (2, 3)), "medium": ((1, 2), (3,)), "hard": ((2,), (1, 3))}


def rank(queries: Tensor, database: Tensor) -> np.ndarray:
    """Return the database's indices in order of falling similarity, (images, queries)."""
    return (-similarities(database, queries)).argsort(dim=0).cpu().numpy()


def retrieve(
    queries: Tensor, database: Tensor, relevance: np.ndarray, protocol: str = "medium", ks: Sequence[int] = (1, 5, 10)
) -> Retrieved:
    """Measure image retrieval as on the revisited Oxford and Paris sets (Radenovic et al., arXiv 1803.11285).

    Args:
        queries, database: features (images, channels).
        relevance: (queries, images) of 0 for negatives, 1 for easy and 2 for hard positives, 3 for junk.
        protocol: "easy": easy images are positives; "medium": easy and hard ones; "hard": hard ones, easy ones are
            junk. Junk images are skipped in the ranking.

    Raises:
        ValueError: another protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    positive, junk = (np.isin(relevance, kinds) for kinds in PROTOCOLS[protocol])
    return ranked(rank(queries, database), positive, junk, ks)


def ranked(ranks: np.ndarray, positive: np.ndarray, junk: np.ndarray, ks: Collection[int] = (1, 5, 10)) -> Retrieved:
    """Measure rankings (images, queries) of a database's indices.

    The average precision is the area under the curve of precision by recall, by trapezoids. A query without positives
    does not count.

    Args:
        positive, junk: booleans (queries, images).
    """
    average = np.full(len(positive), np.nan)
    precision = np.full((len(positive), len(ks)), np.nan)
    for query, order in enumerate(ranks.T):
        if not positive[query].any():
            continue
        found = positive[query][order[~junk[query][order]]]
        places = np.flatnonzero(found)
        before = np.arange(len(places))
        lower = np.where(places == 0, 1.0, before / np.maximum(places, 1))
        average[query] = ((lower + (before + 1) / (places + 1)) / 2).sum() / positive[query].sum()
        for column, k in enumerate(ks):
            seen = min(places.max() + 1, k)
            precision[query, column] = (places < seen).sum() / seen
    counted = ~np.isnan(average)
    mean = float(average[counted].mean()) if counted.any() else float("nan")
    means = precision[counted].mean(axis=0) if counted.any() else np.full(len(ks), np.nan)
    return Retrieved(mean, average, {k: float(value) for k, value in zip(ks, means, strict=True)})
