"""Metrics of a classifier through the package's `evaluate` modules."""

import numpy as np
import torch
import torch.nn.functional as F
from transformers import EvalPrediction

from hf_vits.metrics import load_metric

_RANKS = 5


def rank(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the metrics need of logits (batch, classes): the best five classes (batch, <= 5) and the cross-entropy of
    each image (batch,).
    """
    ranking = logits.topk(min(_RANKS, logits.shape[1]), dim=1).indices
    return ranking, F.cross_entropy(logits.float(), labels, reduction="none")


def accuracy_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """loss, accuracy and top5_accuracy of what `rank` made of a split."""
    rankings, losses = prediction.predictions
    metric = load_metric("top_k_accuracy")
    scores = metric.compute(predictions=rankings, references=prediction.label_ids, k=(1, _RANKS))
    return {"loss": float(losses.mean()), **scores}


def confusion(rankings: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (true class, predicted class)."""
    metric = load_metric("confusion_matrix")
    result = metric.compute(predictions=rankings[:, 0], references=labels, num_classes=num_classes)
    return np.asarray(result["confusion_matrix"])
