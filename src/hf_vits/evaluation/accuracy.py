"""Metrics of a classifier, computed by the package's `evaluate` modules.

A model with several heads has one for each label column of its inputs. `heads` is then {name: number of classes}, as
`hf_vits.data.label_groups.heads_of` returns it, and combinations of one class of each head are ranked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import EvalPrediction

from hf_vits.data.label_groups import combined, first_classes, taken_apart
from hf_vits.layers.label_heads import joint_scores
from hf_vits.metrics import load_metric

_RANKS = 5
_ONE_HEAD: Mapping[str, int] = {}


def rank(
    logits: torch.Tensor, labels: torch.Tensor, heads: Mapping[str, int] = _ONE_HEAD
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rank the classes of a batch and compute its losses.

    Args:
        logits: (batch, classes).
        labels: (batch,), or (batch, heads) positions among all classes.

    Returns:
        The five best classes (batch, 5), best first, or of up to five classes the best one (batch, 1), or
        combinations of classes (batch, <= 5); and the cross-entropy of each input (batch,), averaged over heads.
    """
    if not heads:
        ranking = logits.topk(_RANKS if logits.shape[1] > _RANKS else 1, dim=1).indices
        return ranking, F.cross_entropy(logits.float(), labels, reduction="none")
    logits, sizes = logits.float(), list(heads.values())
    scores = joint_scores(logits, sizes)
    targets = (labels - labels.new_tensor(first_classes(sizes))).unbind(1)
    losses = [
        F.cross_entropy(head, target, reduction="none")
        for head, target in zip(logits.split(sizes, dim=1), targets, strict=True)
    ]
    return scores.topk(min(_RANKS, scores.shape[1]), dim=1).indices, torch.stack(losses).mean(dim=0)


def accuracy_metrics(prediction: EvalPrediction, heads: Mapping[str, int] = _ONE_HEAD) -> dict[str, float]:
    """Return loss, accuracy, top5_accuracy, balanced_accuracy and macro_f1 of a split, predicted by `rank`.

    There is no top5_accuracy of fewer than six classes. balanced_accuracy is the mean recall, and macro_f1 the mean
    F1, of the classes that occur in the split; they do not exist where inputs have several labels.

    With several heads an input is right if all its labels are; `<head>_accuracy` is the accuracy of one head.
    """
    predictions: Any = prediction.predictions
    rankings, losses = predictions
    labels, of_each_head = prediction.label_ids, {}
    if heads:
        right = taken_apart(rankings[:, 0], list(heads.values())) == labels
        of_each_head = {f"{name}_accuracy": float(column.mean()) for name, column in zip(heads, right.T, strict=True)}
        labels = combined(labels, list(heads.values()))
    metric = load_metric("top_k_accuracy")
    ranks = (1, _RANKS) if heads or rankings.shape[1] == _RANKS else (1,)
    scores: Any = metric.compute(predictions=rankings, references=labels, k=ranks)
    if not heads:
        rows = scores_of_classes(confusion(rankings, labels, int(max(rankings.max(), np.max(labels))) + 1))
        present = [row for row in rows if row["inputs"]]
        scores |= {
            name: float(np.mean([row[key] for row in present]))
            for name, key in (("balanced_accuracy", "recall"), ("macro_f1", "f1"))
        }
    return {"loss": float(losses.mean()), **scores, **of_each_head}


def scores_of_classes(matrix: np.ndarray) -> list[dict[str, float]]:
    """Return number of inputs, precision, recall and F1 of each class from a confusion matrix.

    A quotient of zero by zero counts as 0.
    """
    right, predicted, inputs = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return [
        {
            "inputs": int(true),
            "precision": float(hits / max(taken, 1)),
            "recall": float(hits / max(true, 1)),
            "f1": float(2 * hits / max(taken + true, 1)),
        }
        for hits, taken, true in zip(right, predicted, inputs, strict=True)
    ]


def confusion(
    rankings: np.ndarray, labels: np.ndarray, num_classes: int, heads: Mapping[str, int] = _ONE_HEAD
) -> np.ndarray:
    """Return the confusion matrix, counts (true classes, predicted classes).

    With several heads each input counts once for each head.

    Args:
        rankings: (inputs, ranks), best first, as `rank` returns them.
        labels: (inputs,), or (inputs, heads).
    """
    predicted = rankings[:, 0]
    if heads:
        predicted, labels = taken_apart(predicted, list(heads.values())).ravel(), labels.ravel()
    metric = load_metric("confusion_matrix")
    result = metric.compute(predictions=predicted, references=labels, num_classes=num_classes)
    return np.asarray(result["confusion_matrix"])


def labels_of_model(config, class_names: Sequence[str]) -> np.ndarray:
    """Return the model's class for each of the data's classes, matched by name, as indices (classes of the data,).

    For a model without class names, with labels LABEL_0, LABEL_1 and so on, the order of the data's classes counts.

    Raises:
        ValueError: a class of the data that the model lacks.
    """
    if config.id2label == {index: f"LABEL_{index}" for index in range(len(class_names))}:
        return np.arange(len(class_names))
    if unknown := [name for name in class_names if name not in config.label2id]:
        raise ValueError(
            f"{len(unknown)} classes of the data are not among the model's: {', '.join(unknown[:8])}; the model has "
            f"{', '.join(list(config.label2id)[:8])}{', ...' if len(config.label2id) > 8 else ''}"
        )
    return np.array([config.label2id[name] for name in class_names])
