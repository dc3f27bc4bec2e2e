"""Intersection over union (IoU) of segmentations, whose clusters are matched with classes where they have no names."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from hf_vits.data.images.masked import IGNORED

# Which class a cluster stands for: see `assign_clusters`. None: predictions are classes.
Matching = Literal["hungarian", "iou", "precision"] | None


@dataclass(frozen=True)
class MeanIoU:
    """IoU of a segmentation.

    Attributes:
        mean: over all classes; a class that neither truth nor prediction has counts as 0, as in Leopart.
        iou, true_positives, false_positives, false_negatives: of each class, (classes,).
        classes: class of each cluster, (clusters,); None where predictions are classes.
    """

    mean: float
    iou: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray
    classes: np.ndarray | None

    @property
    def present_mean(self) -> float:
        """Mean IoU over the classes that truth or prediction has, as in mmsegmentation; NaN if there are none."""
        return _mean(self.iou, self.true_positives + self.false_positives + self.false_negatives)

    @property
    def accuracy(self) -> np.ndarray:
        """Fraction of the pixels of each class that are right, (classes,); 0 for a class without pixels."""
        return self.true_positives / np.maximum(self.true_positives + self.false_negatives, 1e-8)

    @property
    def mean_accuracy(self) -> float:
        """Mean of `accuracy` over the classes that have pixels; NaN if there are none."""
        return _mean(self.accuracy, self.true_positives + self.false_negatives)

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of all pixels that are right; NaN if there are none."""
        pixels = int((self.true_positives + self.false_negatives).sum())
        return float(self.true_positives.sum() / pixels) if pixels else float("nan")


def _mean(values: np.ndarray, pixels: np.ndarray) -> float:
    """Return the mean of the values of classes that have pixels."""
    return float(values[pixels > 0].mean()) if pixels.any() else float("nan")


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
    return of_totals(hits, predicted.astype(np.int64), counts.sum(axis=1), classes)


def of_totals(
    hits: np.ndarray, predicted: np.ndarray, wanted: np.ndarray, classes: np.ndarray | None = None
) -> MeanIoU:
    """Return the IoU by the numbers of pixels of each class, all (classes,), as `totals` of images add up to.

    Args:
        hits: pixels that are right.
        predicted: pixels that are predicted to be of the class, of the labelled ones.
        wanted: pixels that are labelled as of the class.
        classes: class of each cluster, as `MeanIoU` has it.
    """
    false_positives, false_negatives = predicted - hits, wanted - hits
    iou = hits / np.maximum(hits + false_positives + false_negatives, 1e-8)
    return MeanIoU(float(iou.mean()), iou, hits, false_positives, false_negatives, classes)


def totals(predictions: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the arguments of `of_totals` for an image, (3, classes) of int64; arguments as in `mean_iou`."""
    counts = confusion(predictions, truth, num_classes, num_classes)
    return np.stack([counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)])


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
