"""Segmentation without training, from patch tokens: Leopart, arXiv 2204.13101 (MkuuWaUjinga/leopart, experiments/).

Every function takes `DenseFeatures` and returns predictions of the size of their masks.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import foreground
from .clustering import kmeans, principal_components
from .communities import co_occurrence, communities, edges
from .dense_features import DenseFeatures
from .mean_iou import Matching, MeanIoU, mean_iou

DIMENSIONS = 50  # principal components that are clustered


class Segmentation(NamedTuple):
    """Clusters or classes of pixels (images, side, side), and how they agree with the masks."""

    predictions: np.ndarray
    measured: MeanIoU


class Foreground(NamedTuple):
    """The foreground of training and test images, (images, side, side) of booleans.

    Attributes:
        threshold: precision from which a cluster is foreground.
        jaccard: IoU with the masks of the test images, mean over images.
        attention_jaccard: of the class token's attention alone.
    """

    train: np.ndarray
    test: np.ndarray
    threshold: float
    jaccard: float
    attention_jaccard: float


class Communities(NamedTuple):
    """Fully unsupervised segmentation of test images.

    Attributes:
        segmentations: one for each seed.
        mean, deviation: of the mean IoU over seeds.
        num_communities: for each seed, without the clusters that have no neighbours.
        foreground: that was clustered.
        upper_bound: mean IoU of the clusters, each with the class of which it has most pixels.
    """

    segmentations: list[Segmentation]
    mean: float
    deviation: float
    num_communities: list[int]
    foreground: Foreground
    upper_bound: float


def segment_by_clusters(
    features: DenseFeatures,
    num_clusters: int,
    num_classes: int,
    matching: Matching = None,
    dimensions: int = DIMENSIONS,
    seed: int = 0,
) -> Segmentation:
    """Cluster patches by k-means and match the clusters with the classes (overcluster/sup_overcluster.py).

    Example: `segment_by_clusters(features, 500, 21).measured.mean`.

    Args:
        num_clusters: as many as classes for unsupervised segmentation; more for overclustering.
        matching: see `mean_iou.assign_clusters`; None: "hungarian" for as many clusters as classes, else "precision".
        dimensions: number of principal components; at most the channels.
    """
    components = components_of(features.maps, dimensions)
    clusters = upsampled(as_grid(kmeans(components, num_clusters, seed=seed), features.maps), features.masks)
    matching = matching or ("hungarian" if num_clusters == num_classes else "precision")
    return Segmentation(clusters, mean_iou(clusters, to_array(features.masks), num_clusters, num_classes, matching))


def extract_foreground(
    train: DenseFeatures,
    test: DenseFeatures,
    num_clusters: int = 200,
    dimensions: int = DIMENSIONS,
    seed: int = 0,
) -> Foreground:
    """Find the foreground by clusters that lie inside the class token's attention.

    Labels of the training images are used for one number, the precision from which a cluster is foreground.

    Example: `extract_foreground(train, test).jaccard`.

    Raises:
        ValueError: the encoder has no class token.
    """
    if train.region is None or test.region is None:
        raise ValueError("the foreground is found by a class token's attention, and this encoder has no class token")
    maps = torch.cat([train.maps, test.maps])
    components = components_of(maps, dimensions)
    both = as_grid(kmeans(components, num_clusters, spherical=True, seed=seed), maps)
    found, precision = [], []
    for features, clusters in zip((train, test), both.split([len(train.maps), len(test.maps)]), strict=True):
        pixels, region = upsampled(clusters, features.masks), upsampled(features.region, features.masks) > 0
        found.append((pixels, region))
        precision.append(foreground.cluster_precision(pixels, region, num_clusters))
    truth = [to_array(features.masks) for features in (train, test)]
    threshold = foreground.find_threshold(found[0][0], precision[0], truth[0])
    train_kept, test_kept = (
        foreground.foreground_of(pixels, p, threshold) for (pixels, _), p in zip(found, precision, strict=True)
    )
    scores = foreground.jaccard(test_kept, truth[1]), foreground.jaccard(found[1][1], truth[1])
    return Foreground(train_kept, test_kept, threshold, *scores)


def segment_by_communities(
    train: DenseFeatures,
    test: DenseFeatures,
    num_classes: int,
    num_clusters: int = 149,
    foreground_clusters: int = 200,
    markov_time: float = 2.0,
    weight_threshold: float = 0.09,
    runs: int = 10,
    dimensions: int = DIMENSIONS,
    seed: int = 0,
) -> Communities:
    """Segment test images without labels (fully_unsup_seg/fully_unsup_seg.py); the defaults are those for ViT-S/16.

    Patches of the foreground are clustered; clusters that occur beside each other form communities, the segments. The
    background is one more cluster. Communities are matched with classes to be measured, one to one.

    Example: `segment_by_communities(train, test, num_classes=21).mean`.

    Args:
        num_classes: with the background.
        num_clusters: of the foreground.
        foreground_clusters: see `extract_foreground`.
        markov_time, weight_threshold: see `communities.communities` and `communities.edges`.
        runs: number of seeds of the community detection.
    """
    found = extract_foreground(train, test, foreground_clusters, dimensions, seed)
    maps, masks = torch.cat([train.maps, test.maps]), torch.cat([train.masks, test.masks])
    shown = torch.from_numpy(np.concatenate([found.train, found.test])).to(maps.device)
    # Tokens are repeated for each pixel, so that they count as often as they cover pixels of the foreground.
    numbers = torch.arange(maps[:, 0].numel(), device=maps.device).view(maps[:, 0].shape)
    fitted = torch.from_numpy(upsampled(numbers, masks)).to(maps.device)[shown]
    parts = kmeans(components_of(maps, dimensions), num_clusters, seed=seed, fitted=fitted)
    clusters = np.where(to_array(shown), upsampled(as_grid(parts, maps), masks), num_clusters)
    links = edges(co_occurrence(clusters, num_clusters + 1), weight_threshold)
    tested, truth = clusters[len(train.maps) :], to_array(test.masks)
    segmentations, numbers_found = [], []
    for number in range(1, runs + 1):
        merged = communities(links, num_clusters + 1, markov_time, num_classes - 1, number)
        predictions = merged[tested]
        highest = int(merged.max()) + 1
        segmentations.append(Segmentation(predictions, mean_iou(predictions, truth, highest, num_classes)))
        numbers_found.append(len(np.unique(merged[merged > 0])))
    scores = [segmentation.measured.mean for segmentation in segmentations]
    bound = mean_iou(tested, truth, num_clusters + 1, num_classes, "precision").mean
    return Communities(segmentations, float(np.mean(scores)), float(np.std(scores)), numbers_found, found, bound)


def components_of(maps: Tensor, dimensions: int) -> Tensor:
    """Return the principal components (patches, dimensions) of token maps (images, channels, rows, columns)."""
    tokens = maps.movedim(1, -1).flatten(0, -2)
    return principal_components(tokens, min(dimensions, *tokens.shape))


def as_grid(values: Tensor, maps: Tensor) -> Tensor:
    """Return values (patches,) as (images, rows, columns)."""
    return values.view(maps.shape[0], *maps.shape[2:])


def upsampled(values: Tensor, masks: Tensor) -> np.ndarray:
    """Return values (images, rows, columns) at the size of masks (images, side, side), by the nearest patch."""
    rows, columns = (
        torch.arange(side, device=values.device) * size // side
        for side, size in zip(masks.shape[1:], values.shape[1:], strict=True)
    )
    return to_array(values[:, rows][:, :, columns])


def to_array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
