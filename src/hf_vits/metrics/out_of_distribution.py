"""Detection of inputs of unknown classes as an `evaluate` module, loaded by its path since a name needs a network.

Definitions of hendrycks/natural-adv-examples (calibration_tools.py, `get_measures`), of ImageNet-O.
"""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

_DESCRIPTION = "How well a score separates inputs of unknown classes from those of known classes."

_INPUTS = """
Args:
    predictions: scores, higher for unknown classes, such as minus the largest softmax probability.
    references: 1 for inputs of unknown classes, 0 for the others.
    recall: of the unknown, at which the false positive rate is read.
Returns:
    auroc, aupr (average precision, the unknown being positive) and false_positive_rate: the fraction of known inputs
    that count as unknown at this recall.
"""


def false_positive_rate(scores, positive, recall: float = 0.95) -> float:
    """Return the fraction of negatives above the threshold whose recall is nearest to `recall`.

    Inputs of the same score pass a threshold together. Of thresholds that are equally near the one of the highest
    recall counts.
    """
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive).astype(bool)
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.cumsum(positive)[last]
    misses = 1 + last - hits
    end = np.searchsorted(hits, hits[-1])  # lower thresholds only add negatives
    hits, misses = np.append(hits[end::-1], 0), np.append(misses[end::-1], 0)
    # At no recall the original has a recall of 1, the end of a curve, and no false positives.
    recalls = np.append(hits[:-1] / hits[0], 1.0)
    nearest = int(np.argmin(np.abs(recalls - recall)))
    return float(misses[nearest] / (~positive).sum())


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class OutOfDistribution(evaluate.Metric):
    def _info(self):
        features = {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, recall=0.95):
        if len(set(references)) != 2:
            raise ValueError("both kinds of references are needed, 1 for inputs of unknown classes and 0 for others")
        return {
            "auroc": float(roc_auc_score(references, predictions)),
            "aupr": float(average_precision_score(references, predictions)),
            "false_positive_rate": false_positive_rate(predictions, references, recall),
        }
