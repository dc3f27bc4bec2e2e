"""Models of semantic segmentation, measured on images with masks: IoU of classes, pixel accuracy, cross-entropy."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_vits.processing.segmentation import resized

from .mean_iou import IGNORED, MeanIoU, of_totals, totals


def measure(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixels of each class of an image, see `mean_iou.totals`, and its cross-entropy summed over pixels.

    Args:
        logits: (classes, height, width), resized to the mask.
        mask: (height, width), classes or 255 where nothing is known.
    """
    scores = resized(logits[None], (mask.shape[0], mask.shape[1]))
    loss = cross_entropy(scores, mask[None], ignore_index=IGNORED, reduction="sum")
    found = totals(scores[0].argmax(dim=0).cpu().numpy(), mask.cpu().numpy(), len(logits))
    return torch.from_numpy(found), loss.cpu()


def summarize(counts: np.ndarray, losses: np.ndarray) -> tuple[dict[str, float], MeanIoU]:
    """Return the scores of a data set by name, and its IoU, from what `measure` returns for each image.

    Scores are loss, mean_iou and mean_accuracy over the classes that occur, and pixel_accuracy.

    Args:
        counts: (images, 3, classes).
        losses: (images,).
    """
    measured = of_totals(*counts.astype(np.int64).sum(axis=0))
    pixels = max(int((measured.true_positives + measured.false_negatives).sum()), 1)
    scores = {
        "loss": float(losses.astype(np.float64).sum() / pixels),
        "mean_iou": measured.present_mean,
        "pixel_accuracy": measured.pixel_accuracy,
        "mean_accuracy": measured.mean_accuracy,
    }
    return scores, measured


def class_rows(measured: MeanIoU, class_names: list[str]) -> list[dict[str, str | float | int]]:
    """Return a row for each class: its name, IoU, accuracy, and labelled pixels."""
    pixels = measured.true_positives + measured.false_negatives
    columns = (class_names, measured.iou.tolist(), measured.accuracy.tolist(), pixels.tolist())
    names = ("class", "iou", "accuracy", "pixels")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
