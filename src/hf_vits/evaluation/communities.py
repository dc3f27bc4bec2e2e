"""Communities of clusters that occur beside each other: Leopart, arXiv 2204.13101, section 3.4.

MkuuWaUjinga/leopart, experiments/fully_unsup_seg/fully_unsup_seg.py.
"""

import math
from collections.abc import Sequence

import numpy as np

# The directions of neighbours. The seventh would be 5/4 pi; the original has 4/3 pi, and so here.
ANGLES = (0, math.pi / 4, math.pi / 2, 3 * math.pi / 4, math.pi, 4 * math.pi / 3, 3 * math.pi / 2, 7 * math.pi / 4)


def co_occurrence(clusters: np.ndarray, num_clusters: int, distances: Sequence[int] = (1, 2)) -> np.ndarray:
    """Return how often each cluster has each other cluster as neighbour, (clusters, clusters).

    A row is the mean, over the images where the cluster has neighbours, of their relative frequencies; it sums to 1,
    or to 0 for a cluster that has no neighbours.

    Args:
        clusters: (images, rows, columns).
        distances: of neighbours, in pixels.
    """
    total, images = np.zeros((num_clusters, num_clusters)), np.zeros(num_clusters)
    offsets = [(round(math.sin(a) * d), round(math.cos(a) * d)) for d in distances for a in ANGLES]
    for image in clusters:
        counts = np.zeros((num_clusters, num_clusters), np.int64)
        for down, right in offsets:
            here, there = image[shifted(down)][:, shifted(right)], image[shifted(-down)][:, shifted(-right)]
            pairs = here.astype(np.int64).ravel() * num_clusters + there.ravel()
            counts += np.bincount(pairs, minlength=num_clusters**2).reshape(num_clusters, num_clusters)
        np.fill_diagonal(counts, 0)
        neighbours = counts.sum(axis=1)
        total += counts / np.maximum(neighbours, 1)[:, None]
        images += neighbours > 0
    return total / np.maximum(images, 1)[:, None]


def shifted(offset: int) -> slice:
    """Return the places of an axis that have a neighbour at `offset`."""
    return slice(None, -offset) if offset > 0 else slice(-offset, None)


def edges(matrix: np.ndarray, threshold: float) -> list[tuple[int, int, float]]:
    """Return (cluster, cluster, weight) of the pairs that are neighbours at least as often as `threshold`, both ways.

    Args:
        matrix: from `co_occurrence`.
    """
    weights = np.minimum(matrix, matrix.T)
    return [(int(i), int(j), float(weights[i, j])) for i, j in np.argwhere(np.triu(weights >= threshold))]


def communities(
    links: Sequence[tuple[int, int, float]],
    num_clusters: int,
    markov_time: float = 2.0,
    num_communities: int = 20,
    seed: int = 1,
) -> np.ndarray:
    """Return the community of each cluster by Infomap (arXiv 0707.0609), (clusters,) from 1; 0 without neighbours.

    Args:
        links: from `edges`.
        markov_time: larger values give fewer and larger communities.
        num_communities: number of communities that is preferred.
        seed: of the search, from 1.

    Raises:
        ImportError: the package infomap is not installed.
    """
    try:
        import infomap
    except ImportError as error:
        raise ImportError("communities are found by the package infomap: pip install hf_vits[communities]") from error
    found = np.zeros(num_clusters, np.int64)
    if links:
        options = {"silent": True, "preferred_number_of_modules": num_communities}
        result = infomap.run(
            list(links), options=options, seed=seed, two_level=True, directed=False, markov_time=markov_time
        )
        for node, community in result.modules().items():
            found[node] = community
    return found
