"""Scores of multi-label classification as an `evaluate` module, loaded by its path since a name needs a network.

Definitions of QData/C-Tran, utils/evaluate.py and utils/metrics.py.
"""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = (
    "Mean average precision, and precision, recall and F1 by class and overall, of several labels per input."
)

_INPUTS = """
Args:
    predictions: for each input, the probability of every label.
    references: for each input, 1 for a positive label, 0 for a negative one, NaN for an unknown one, not counted.
    known: for each input, whether a label was given to the model; None where none was. mAP is then the mean over the
        labels that have a positive among the inputs in which they were not given; the other scores count all labels.
    thresholds: from which probability a label counts as predicted, one number or one for each label.
    top: how many of the most probable labels count for the scores whose names end in _top<number>; None for none.
    num_concepts: how many of the first labels are concepts, the others being classes of which one is positive (CUB);
        None where there are no classes.
Returns:
    mAP; CP, CR, CF1: precision, recall, averaged over labels, and their harmonic mean; OP, OR, OF1: the same over all
    labels together; ACC: fraction of inputs of which all labels are right; HA: fraction of labels that are right;
    ebF1: F1 of each input, averaged over those with a positive or predicted label; concept_acc and class_acc with
    num_concepts. All lie between 0 and 1. A quotient of zero by zero counts as 0.
"""


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the mean of the precisions at the thresholds, weighted by how much recall each adds; 0 without positives.

    Inputs of the same score pass a threshold together.

    Args:
        scores, positive: (inputs,).
    """
    if not positive.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each group of equal scores
    found = hits[last]
    return float((np.diff(found, prepend=0) * found / (last + 1)).sum() / found[-1])


def mean_average_precision(scores: np.ndarray, labels: np.ndarray, known: np.ndarray | None) -> float:
    """Return mAP, see the arguments of the metric."""
    counted = ~np.isnan(labels)
    masked = known is not None or not counted.all()
    if known is not None:
        counted = counted & ~known
    pairs = [(scores[rows, i], labels[rows, i] > 0) for i, rows in enumerate(counted.T)]
    precisions = [average_precision(*pair) for pair in pairs if pair[1].any() or not masked]
    return float(np.mean(precisions)) if precisions else 0.0


def over(numerator, denominator):
    """Divide; 0 where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def precision_recall(predicted: np.ndarray, labels: np.ndarray, suffix: str = "") -> dict[str, float]:
    """Return CP, CR, CF1, OP, OR and OF1 of booleans `predicted` and labels, both (inputs, labels)."""
    positive, counted = labels > 0, ~np.isnan(labels)
    hits, predicted = (predicted & positive).sum(0), (predicted & counted).sum(0)
    values = {}
    for letter, precision, recall in (
        ("C", over(hits, predicted).mean(), over(hits, positive.sum(0)).mean()),
        ("O", over(hits.sum(), predicted.sum()), over(hits.sum(), positive.sum())),
    ):
        f1 = over(2 * precision * recall, precision + recall)
        values |= {f"{letter}P": precision, f"{letter}R": recall, f"{letter}F1": f1}
    return {f"{name}{suffix}": float(value) for name, value in values.items()}


def of_inputs(predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return ACC, HA and ebF1 of booleans `predicted` and labels, both (inputs, labels)."""
    positive, counted = labels > 0, ~np.isnan(labels)
    predicted = predicted & counted
    right = (predicted == positive) | ~counted
    total = positive.sum(1) + predicted.sum(1)
    f1 = (2 * (positive & predicted).sum(1))[total > 0] / total[total > 0]
    return {
        "ACC": float(right.all(axis=1).mean()),
        "HA": float(over((right & counted).sum(1), counted.sum(1)).mean()),
        "ebF1": float(f1.mean()) if len(f1) else 0.0,
    }


def of_classes(scores: np.ndarray, labels: np.ndarray, num_concepts: int) -> dict[str, float]:
    """Return the accuracy of concepts, averaged over them, and of the most probable class."""
    right = (scores[:, :num_concepts] >= 0.5) == (labels[:, :num_concepts] > 0)
    best, true = scores[:, num_concepts:].argmax(1), labels[:, num_concepts:].argmax(1)
    return {"concept_acc": float(right.mean(0).mean()), "class_acc": float((best == true).mean())}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class MultiLabel(evaluate.Metric):
    def _info(self):
        row = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": row, "references": row}),
        )

    def _compute(self, predictions, references, known=None, thresholds=0.5, top=3, num_concepts=None):
        scores, labels = np.asarray(predictions, float), np.asarray(references, float)
        predicted = scores >= np.asarray(thresholds)
        known = None if known is None else np.asarray(known, bool)
        result = {"mAP": mean_average_precision(scores, labels, known), **precision_recall(predicted, labels)}
        if top is not None:
            lowest = np.sort(scores, axis=1)[:, -min(top, scores.shape[1]), None]
            result |= precision_recall(predicted & (scores >= lowest), labels, f"_top{top}")
        result |= of_inputs(predicted, labels)
        return result if num_concepts is None else result | of_classes(scores, labels, num_concepts)
