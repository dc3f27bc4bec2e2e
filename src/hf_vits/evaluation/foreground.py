"""Foreground extraction by clusters: Leopart, arXiv 2204.13101, section 3.3.

Clusters of patches that lie mostly inside the attention of a class token are foreground
(MkuuWaUjinga/leopart, experiments/fully_unsup_seg/fully_unsup_seg.py).
"""

from typing import NamedTuple

import numpy as np

FRACTIONS = (0.55, 0.75)  # smallest and largest fraction of clusters that may be background
_STEP = 0.05  # to which the threshold is rounded


class Cut(NamedTuple):
    """A division of the clusters by their precision.

    Attributes:
        precision: of the first cluster of the foreground.
        start: number of clusters of the background.
        jaccard: of the foreground with the truth.
    """

    precision: float
    start: int
    jaccard: float


def cluster_precision(clusters: np.ndarray, region: np.ndarray, num_clusters: int) -> np.ndarray:
    """Return how much of each cluster lies inside a region, (clusters,): the mean over the images where it occurs.

    A cluster that occurs nowhere has precision 0.

    Args:
        clusters: (images, rows, columns), from 0 to num_clusters - 1.
        region: (images, rows, columns), True inside.
    """
    images = np.arange(len(clusters))[:, None] * num_clusters
    places = (clusters.reshape(len(clusters), -1) + images).ravel()
    size = len(clusters) * num_clusters
    total, inside = (
        np.bincount(places, weights, size).reshape(-1, num_clusters)
        for weights in (None, region.reshape(-1).astype(float))
    )
    return (inside / np.maximum(total, 1e-8)).sum(axis=0) / np.maximum((total > 0).sum(axis=0), 1)


def foreground_of(clusters: np.ndarray, precision: np.ndarray, threshold: float) -> np.ndarray:
    """Return the foreground (images, rows, columns): clusters of at least this precision."""
    return (precision >= threshold)[clusters]


def jaccard(foreground: np.ndarray, truth: np.ndarray) -> float:
    """Return the IoU of a foreground (images, rows, columns) and masks, whose label 0 is background: mean of images.

    An ignored label counts as foreground, as in the original; an image without any foreground counts as 1.
    """
    wanted, axes = truth != 0, tuple(range(1, truth.ndim))
    both, either = (wanted & foreground).sum(axis=axes), (wanted | foreground).sum(axis=axes)
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


def cuts(clusters: np.ndarray, precision: np.ndarray, truth: np.ndarray) -> list[Cut]:
    """Return the candidates for dividing the clusters, from the worst to the best on labelled images."""
    ordered, number = np.argsort(precision), len(precision)
    found = []
    for start in range(int(FRACTIONS[0] * number), int(FRACTIONS[1] * number)):
        foreground = np.isin(clusters, ordered[start:])
        found.append(Cut(float(precision[ordered[start]]), start, jaccard(foreground, truth)))
    if not found:
        raise ValueError(f"{number} clusters are too few to divide them into foreground and background: take more")
    return sorted(found, key=lambda cut: cut.jaccard)


def find_threshold(clusters: np.ndarray, precision: np.ndarray, truth: np.ndarray) -> float:
    """Return the precision of the best cut, rounded to the nearest 0.05 below 1."""
    best = cuts(clusters, precision, truth)[-1]
    return float(min(np.arange(0, 1, _STEP), key=lambda value: abs(value - best.precision)))
