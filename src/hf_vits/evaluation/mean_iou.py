"""Intersection over union (IoU) of segmentations, whose clusters are matched with classes where they have no names."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

IGNORED = 255  # label of pixels that count for nothing, such as the boundaries of objects in Pascal VOC

# Which class a cluster stands for: see `assign_clusters`. None: predictions are classes.
Matching = Literal["hungarian", "iou", "precision"] | None


@dataclass(frozen=True)
class MeanIoU:
    """IoU of a segmentation.

    Attributes:
        mean: over all classes; a class that neither truth nor prediction has counts as 0.
        iou, true_positives, false_positives, false_negatives: of each class, (classes,).
        classes: class of each cluster, (clusters,); None where predictions are classes.
    """

    mean: float
    iou: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray
    classes: np.ndarray | None


def mean_iou(
    predictions: np.ndarray,
    truth: np.ndarray,
    num_clusters: int,
    num_classes: int,
    matching: Matching = "hungarian",
) -> MeanIoU:
    """Return the IoU over all pixels of a data set (MkuuWaUjinga/leopart, experiments/utils.py, `PredsmIoU`).

    Example: `mean_iou(clusters, masks, num_clusters=500, num_classes=21, matching="precision").mean`.

    Args:
        predictions: cluster of each pixel, any shape.
        truth: class of each pixel, the same shape; pixels with the label 255 are ignored.
        num_clusters: number of clusters; clusters may be empty.
        matching: how clusters get classes, see `assign_clusters`; None if predictions are classes,
            of which those beyond `num_classes` are wrong everywhere.

    Raises:
        ValueError: shapes differ, or a label or cluster lies outside its range.
    """
    counts = confusion(predictions, truth, num_clusters, num_classes)
    classes = None
    if matching is not None:
        classes = assign_clusters(counts, matching)
        merged = np.zeros((num_classes, num_classes), np.int64)
        np.add.at(merged.T, classes, counts.T)
        counts = merged
    hits = np.pad(counts, ((0, 0), (0, max(num_classes - num_clusters, 0)))).diagonal()
    predicted = np.bincount(np.arange(counts.shape[1]), counts.sum(axis=0), num_classes)[:num_classes]
    false_positives, false_negatives = predicted.astype(np.int64) - hits, counts.sum(axis=1) - hits
    iou = hits / np.maximum(hits + false_positives + false_negatives, 1e-8)
    return MeanIoU(float(iou.mean()), iou, hits, false_positives, false_negatives, classes)


def confusion(predictions: np.ndarray, truth: np.ndarray, num_clusters: int, num_classes: int) -> np.ndarray:
    """Return how many pixels of each class are in each cluster, (classes, clusters), without ignored pixels."""
    predictions, truth = np.asarray(predictions), np.asarray(truth)
    if predictions.shape != truth.shape:
        raise ValueError(
            f"the prediction has shape {predictions.shape}, the mask {truth.shape}: resize one to the other first"
        )
    counted = truth != IGNORED
    predictions, truth = predictions[counted].astype(np.int64), truth[counted].astype(np.int64)
    for what, values, number in (("label", truth, num_classes), ("cluster", predictions, num_clusters)):
        if values.size and not 0 <= values.min() <= values.max() < number:
            raise ValueError(
                f"{what}s must lie between 0 and {number - 1}"
                f"{f' or be {IGNORED} (ignored)' if what == 'label' else ''}, got {values.min()} to {values.max()}"
            )
    return np.bincount(truth * num_clusters + predictions, minlength=num_classes * num_clusters).reshape(
        num_classes, num_clusters
    )


def assign_clusters(counts: np.ndarray, matching: Matching) -> np.ndarray:
    """Return the class of each cluster, (clusters,), from counts (classes, clusters) of their pixels.

    Args:
        matching: "hungarian" gives each class at most one cluster, so that the sum of the IoU is largest, and other
            clusters class 0; "iou" and "precision" give each cluster the class with which its own IoU or precision
            is largest, the first of several.
    """
    covered = counts.sum(axis=0, keepdims=True)
    if matching == "precision":
        return (counts / np.maximum(covered, 1e-8)).argmax(axis=0)
    iou = counts / np.maximum(counts.sum(axis=1, keepdims=True) + covered - counts, 1e-8)
    if matching == "iou":
        return iou.argmax(axis=0)
    if matching != "hungarian":
        raise ValueError(f'matching must be "hungarian", "iou" or "precision", got {matching!r}')
    classes = np.zeros(counts.shape[1], np.int64)
    rows, columns = linear_sum_assignment(1 - iou)
    classes[columns] = rows
    return classes
