"""Confusion matrix as an `evaluate` module, loaded by its path since loading by name needs a network."""

import datasets
import evaluate
from sklearn.metrics import confusion_matrix

_DESCRIPTION = "Number of samples of each true class that were predicted as each class."

_INPUTS = """
Args:
    predictions: predicted class indices.
    references: true class indices.
    num_classes: number of classes, including those that do not occur.
Returns:
    confusion_matrix: nested list of counts; row i, column j: samples of class i predicted as class j.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class ConfusionMatrix(evaluate.Metric):
    def _info(self):
        features = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, num_classes):
        matrix = confusion_matrix(references, predictions, labels=range(num_classes))
        return {"confusion_matrix": matrix.tolist()}
