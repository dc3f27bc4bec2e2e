"""Principal components and k-means of many feature vectors."""

import math

import torch
from torch import Tensor
from tqdm import tqdm

SAMPLES_PER_CLUSTER = 256  # k-means is fitted to at most so many vectors per cluster, drawn at random, as by faiss
_PRODUCTS = 2**26  # computed at a time: a quarter of a GiB
_SPLIT = 1 / 1024  # relative difference of the halves of a cluster that is split, as in faiss


@torch.no_grad()
def principal_components(features: Tensor, dimensions: int = 50) -> Tensor:
    """Return the first principal components of standardised features (MkuuWaUjinga/leopart, experiments/utils.py).

    Args:
        features: (vectors, channels).
        dimensions: number of components.

    Returns:
        (vectors, dimensions) in float32; each component is up to its sign.

    Raises:
        ValueError: there are fewer channels or vectors than components.
    """
    if features.ndim != 2 or not 1 <= dimensions <= min(features.shape):
        raise ValueError(f"{dimensions} components cannot be found of features of shape {tuple(features.shape)}")
    features = features.float()
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0)
    features = (features - mean) / torch.where(deviation > 0, deviation, 1)
    features = features - features.mean(dim=0)
    covariance = sum(part.double().T @ part.double() for part in features.split(2**16))
    vectors = torch.linalg.eigh(covariance)[1].flip(1)[:, :dimensions]
    return features @ vectors.float()


@torch.no_grad()
def kmeans(
    features: Tensor,
    num_clusters: int,
    iterations: int = 100,
    restarts: int = 5,
    spherical: bool = False,
    seed: int = 0,
) -> Tensor:
    """Cluster feature vectors by k-means, with a progress bar.

    As faiss does it: it starts from random vectors, splits a large cluster where one is empty, and keeps the best of
    several starts.

    Args:
        features: (vectors, channels).
        iterations: largest number of steps of a start.
        restarts: number of starts.
        spherical: whether centres have length 1 and vectors belong to the centre of the largest inner product, not to
            the nearest one.
        seed: of the starts.

    Returns:
        Cluster of each vector, (vectors,), from 0.

    Raises:
        ValueError: there are fewer vectors than clusters.
    """
    if not 1 <= num_clusters <= len(features):
        raise ValueError(f"{num_clusters} clusters cannot be found in {len(features)} vectors")
    features = features.float()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(features), generator=generator)[: SAMPLES_PER_CLUSTER * num_clusters]
    sample = features[order.to(features.device)]
    best, best_centres = math.inf, sample[:0]
    for _ in tqdm(range(restarts), desc="k-means", unit="start", leave=False, disable=None):
        start = torch.randperm(len(sample), generator=generator)[:num_clusters]
        cost, centres = fit(sample, sample[start.to(sample.device)], iterations, spherical)
        if cost < best:
            best, best_centres = cost, centres
    return nearest(features, best_centres, spherical)[0]


def fit(features: Tensor, centres: Tensor, iterations: int, spherical: bool) -> tuple[float, Tensor]:
    """Return the cost and the centres after iterations, or as soon as nothing changes."""
    clusters = cost = None
    for _ in range(iterations):
        before = clusters
        clusters, costs = nearest(features, centres, spherical)
        cost = costs.sum().item()
        if before is not None and torch.equal(before, clusters):
            break
        counts = clusters.bincount(minlength=len(centres)).to(features.dtype)
        sums = torch.zeros_like(centres).index_add_(0, clusters, features)
        centres = split_large(sums / counts.clamp(min=1)[:, None], counts)
        if spherical:
            centres = torch.nn.functional.normalize(centres, dim=1)
    return cost if cost is not None else math.inf, centres


def split_large(centres: Tensor, counts: Tensor) -> Tensor:
    """Return centres in which each empty cluster got half of the largest one."""
    for empty in (counts == 0).nonzero().flatten().tolist():
        largest = int(counts.argmax())
        signs = torch.ones_like(centres[0])
        signs[1::2] = -1
        centres[empty] = centres[largest] * (1 + _SPLIT * signs)
        centres[largest] = centres[largest] * (1 - _SPLIT * signs)
        counts[empty] = counts[largest] = counts[largest] / 2
    return centres


def nearest(features: Tensor, centres: Tensor, spherical: bool) -> tuple[Tensor, Tensor]:
    """Return the cluster of each vector and its cost: the squared distance, or the negative inner product."""
    clusters, costs = [], []
    for part in features.split(max(_PRODUCTS // len(centres), 1)):
        if spherical:
            distances = -part @ centres.T
        else:
            distances = centres.square().sum(dim=1) - 2 * part @ centres.T + part.square().sum(dim=1, keepdim=True)
        cost, cluster = distances.min(dim=1)
        clusters.append(cluster)
        costs.append(cost)
    return torch.cat(clusters), torch.cat(costs)
