"""Curves over growing loss of information as an `evaluate` module, loaded by its path since a name needs a network.

What arXiv 2105.10497 plots over the fraction of an image that is occluded, and worst cases (arXiv 2103.14586).
"""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = "How a classifier's accuracy falls while its inputs lose information."

_INPUTS = """
Args:
    predictions: for each input, for each level of loss, the logits of all classes; level 0 is the clean input.
    references: true class indices.
    levels: how much is lost at each level, rising, such as the fraction of pixels; None for equal steps.
Returns:
    accuracy, relative_accuracy (divided by the clean one), agreement_with_clean, true_class_probability: one number
    for each level; area_under_accuracy: by trapezoids over the levels, divided by their range; worst_case_accuracy:
    fraction of inputs that are right at every level.
"""


def information_loss(logits, labels, levels=None) -> dict:
    """Return what the metric returns, of logits (levels, inputs, classes) and labels (inputs,).

    Raises:
        ValueError: the levels are not as many as those of the logits, or do not rise.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    levels = np.arange(len(logits)) if levels is None else np.asarray(levels, np.float64)
    if len(levels) != len(logits) or len(levels) < 2 or (np.diff(levels) <= 0).any():
        raise ValueError(
            f"levels must be at least two rising numbers, one for each of {len(logits)}, got {levels.tolist()}"
        )
    classes = logits.argmax(axis=-1)
    right = classes == labels
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    accuracy = right.mean(axis=1)
    steps = np.diff(levels)
    return {
        "accuracy": accuracy.tolist(),
        "relative_accuracy": (accuracy / accuracy[0] if accuracy[0] else np.full_like(accuracy, np.nan)).tolist(),
        "agreement_with_clean": (classes == classes[0]).mean(axis=1).tolist(),
        "true_class_probability": probabilities[:, np.arange(len(labels)), labels].mean(axis=1).tolist(),
        "area_under_accuracy": float(((accuracy[1:] + accuracy[:-1]) / 2 * steps).sum() / steps.sum()),
        "worst_case_accuracy": float(right.all(axis=0).mean()),
    }


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class InformationLoss(evaluate.Metric):
    def _info(self):
        levels = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": levels, "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions, references, levels=None):
        return information_loss(np.asarray(predictions, np.float64).swapaxes(0, 1), references, levels)
