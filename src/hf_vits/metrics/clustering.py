"""Purity, normalised mutual information and adjusted Rand index of clusters, as an `evaluate` module."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

_DESCRIPTION = "How well clusters agree with classes: purity, normalised mutual information, adjusted Rand index."

_INPUTS = """
Args:
    predictions: cluster of each sample, any integers.
    references: class of each sample, any integers.
Returns:
    purity: fraction of samples whose class is the commonest of their cluster, from 0 to 1.
    normalized_mutual_information: with the arithmetic mean of both entropies, from 0 to 1.
    adjusted_rand_index: 1 for equal partitions, about 0 for random ones.
"""


def purity(references, predictions) -> float:
    """Return the fraction of samples whose class is the commonest of their cluster."""
    return float(contingency_matrix(references, predictions).max(axis=0).sum() / len(np.asarray(references)))


def normalized_mutual_information(references, predictions) -> float:
    """Return the mutual information of classes and clusters over the arithmetic mean of their entropies."""
    return float(normalized_mutual_info_score(references, predictions))


def adjusted_rand_index(references, predictions) -> float:
    """Return the Rand index of classes and clusters, adjusted for chance."""
    return float(adjusted_rand_score(references, predictions))


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class Clustering(evaluate.Metric):
    def _info(self):
        features = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=datasets.Features(features)
        )

    def _compute(self, predictions, references):
        return {
            "purity": purity(references, predictions),
            "normalized_mutual_information": normalized_mutual_information(references, predictions),
            "adjusted_rand_index": adjusted_rand_index(references, predictions),
        }
