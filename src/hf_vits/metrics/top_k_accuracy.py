"""Top-k accuracy as an `evaluate` module, loaded by its path since loading by name needs a network."""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = "Fraction of samples whose true class is among the k classes that the model ranks highest."

_INPUTS = """
Args:
    predictions: for each sample, class indices in order of falling probability.
    references: true class indices.
    k: values of k; one above the number of ranked classes counts all of them.
Returns:
    accuracy for k = 1 and top<k>_accuracy for every other k, between 0 and 1.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class TopKAccuracy(evaluate.Metric):
    def _info(self):
        features = {"predictions": datasets.Sequence(datasets.Value("int64")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, k=(1, 5)):
        hits = np.asarray(predictions) == np.asarray(references)[:, None]
        return {
            "accuracy" if number == 1 else f"top{number}_accuracy": float(hits[:, :number].any(axis=1).mean())
            for number in k
        }
