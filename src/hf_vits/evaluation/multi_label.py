"""Scores of classifiers of which several classes may be true, computed by the package's `evaluate` module."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import EvalPrediction

from hf_vits.layers.multi_label import UNKNOWN
from hf_vits.metrics import load_metric


def score(
    logits: torch.Tensor, labels: torch.Tensor, known_labels: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return probabilities and losses of a batch, and which labels the model was given.

    Args:
        logits, labels: (batch, classes); labels that are NaN are unknown.
        known_labels: (batch, classes), what the model was given: -1 where nothing.

    Returns:
        Probabilities (batch, classes), the binary cross-entropy of each input (batch,), averaged over the labels that
        are neither NaN nor known, and booleans (batch, classes).
    """
    logits = logits.float()
    known = torch.zeros_like(labels, dtype=torch.bool) if known_labels is None else known_labels != UNKNOWN
    counted = ~known & ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    loss = losses.masked_fill(~counted, 0).sum(1) / counted.sum(1).clamp(min=1)
    return logits.sigmoid(), loss, known


def multi_label_metrics(prediction: EvalPrediction, thresholds: float | np.ndarray = 0.5) -> dict[str, float]:
    """Return the loss and the scores of `hf_vits.metrics.multi_label` of a split, whose predictions `score` made.

    Args:
        thresholds: from which probability a class counts as predicted, one for all or one for each.
    """
    predictions: Any = prediction.predictions
    probabilities, losses, known = predictions
    metric = load_metric("multi_label")
    known = known if known.any() else None
    scores: Any = metric.compute(
        predictions=probabilities, references=prediction.label_ids, known=known, thresholds=thresholds, top=None
    )
    return {"loss": float(losses.mean()), **scores}


def best_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return for each class the threshold (classes,) with the best F1; 0.5 for classes without a positive.

    A threshold lies halfway between two neighbouring probabilities.

    Args:
        probabilities, labels: (inputs, classes); labels that are NaN do not count.
    """
    thresholds = np.full(labels.shape[1], 0.5)
    for index in range(labels.shape[1]):
        counted = ~np.isnan(labels[:, index])
        scores, positive = probabilities[counted, index], labels[counted, index] > 0
        if not positive.any():
            continue
        order = np.argsort(-scores, kind="stable")
        scores, hits = scores[order], np.cumsum(positive[order])
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
        last = np.append(np.diff(scores) < 0, True)  # equal scores pass a threshold together
        best = int(np.where(last, f1, -1).argmax())
        below = scores[best + 1] if best + 1 < len(scores) else 0.0
        thresholds[index] = (float(scores[best]) + float(below)) / 2
    return thresholds


def of_each_class(
    probabilities: np.ndarray, labels: np.ndarray, known: np.ndarray, thresholds: float | np.ndarray
) -> list[dict[str, float]]:
    """Return for each class its number of positives, average precision, threshold, precision, recall and F1."""
    metric, rows = load_metric("multi_label"), []
    for index, threshold in enumerate(np.broadcast_to(thresholds, labels.shape[1:])):
        counted = ~np.isnan(labels[:, index]) & ~known[:, index]
        if not counted.any():
            rows.append({"positives": 0, "threshold": float(threshold)})
            continue
        one = (probabilities[counted, index, None], labels[counted, index, None])
        scores: Any = metric.compute(predictions=one[0], references=one[1], thresholds=float(threshold), top=None)
        named = {"average_precision": "mAP", "precision": "CP", "recall": "CR", "f1": "CF1"}
        row = {"positives": int((one[1] > 0).sum()), "threshold": float(threshold)}
        rows.append(row | {name: float(scores[key]) for name, key in named.items()})
    return rows
