"""Accuracy and calibration of confidences as an `evaluate` module, loaded by its path since a name needs a network.

Definitions of hendrycks/natural-adv-examples (calibration_tools.py), of ImageNet-A, -O and -R.
"""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = "How well the largest softmax probability says whether a prediction is right."

_INPUTS = """
Args:
    predictions: for each input, the logits of all classes.
    references: true class indices; with class_subset, places in it.
    class_subset: the classes that count; all other columns are removed before the softmax, as in ImageNet-A and -R.
        None for all classes.
    bin_size: confidences in each bin of the adaptive errors.
    keep_last_bin: whether the last bin counts, which also holds the remainder. False as in the original, which leaves
        it out, so that errors are 0 with fewer than two bins.
    num_bins: bins of equal width of the expected calibration error.
Returns:
    accuracy; rms_calibration_error, mad_calibration_error, max_calibration_error: root mean square, mean and largest
    difference of confidence and accuracy over bins of equally many inputs; expected_calibration_error: mean difference
    over bins of equal width; aurra: area under the response rate accuracy curve; soft_f1. All lie between 0 and 1.
"""


def confidences(logits, labels, class_subset=None) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest softmax probability and whether the prediction is right, both (inputs,).

    Args:
        logits: (inputs, classes).
        labels: (inputs,), places in `class_subset` where it is given.
        class_subset: columns that are kept before the softmax.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if class_subset is not None:
        logits = logits[:, np.asarray(class_subset)]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities.max(axis=1), logits.argmax(axis=1) == labels


def adaptive_error(confidence, correct, norm: str = "rms", bin_size: int = 100, keep_last_bin: bool = False) -> float:
    """Return the calibration error over bins of equally many inputs.

    Args:
        confidence, correct: (inputs,).
        norm: "rms", "mad" (mean absolute deviation) or "max".
        bin_size: inputs in a bin; the last bin also holds the remainder.
        keep_last_bin: False leaves the last bin out, as the original does.

    Raises:
        ValueError: there are fewer inputs than a bin holds, or the norm is unknown.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if norm not in ("rms", "mad", "max"):
        raise ValueError(f'norm must be "rms", "mad" or "max", got {norm!r}')
    if bin_size < 1 or len(confidence) < bin_size:
        raise ValueError(f"{len(confidence)} inputs do not fill a bin of bin_size={bin_size}: take smaller bins")
    order = np.argsort(confidence)
    starts = np.arange(len(order) // bin_size) * bin_size
    bins = np.split(order, starts[1:])
    bins = bins if keep_last_bin else bins[:-1]
    gaps = np.array([abs(confidence[rows].mean() - correct[rows].mean()) for rows in bins])
    if not len(gaps):
        return 0.0
    weights = np.array([len(rows) for rows in bins]) / len(order)
    if norm == "max":
        return float(gaps.max())
    return float(np.sqrt((weights * gaps**2).sum())) if norm == "rms" else float((weights * gaps).sum())


def expected_error(confidence, correct, num_bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal width from 0 to 1, each without its lower end."""
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, confidence - correct, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def aurra(confidence, correct) -> float:
    """Return the mean accuracy of the most confident inputs, over all numbers of them."""
    order = np.argsort(confidence)[::-1]
    hits = np.cumsum(np.asarray(correct, np.float64)[order])
    return float((hits / np.arange(1, len(hits) + 1)).mean())


def soft_f1(confidence, correct) -> float:
    """Return the F1 score of doubt, 1 - confidence, as a prediction of being wrong; 1 without doubt and errors."""
    doubt, wrong = 1 - np.asarray(confidence, np.float64), 1 - np.asarray(correct, np.float64)
    total = (doubt + wrong).sum()
    return float(2 * (doubt * wrong).sum() / total) if total else 1.0


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class CalibrationError(evaluate.Metric):
    def _info(self):
        features = {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, class_subset=None, bin_size=100, keep_last_bin=False, num_bins=15):
        confidence, correct = confidences(predictions, references, class_subset)
        errors = {
            f"{norm}_calibration_error": adaptive_error(confidence, correct, norm, bin_size, keep_last_bin)
            for norm in ("rms", "mad", "max")
        }
        return {
            "accuracy": float(correct.mean()),
            **errors,
            "expected_calibration_error": expected_error(confidence, correct, num_bins),
            "aurra": aurra(confidence, correct),
            "soft_f1": soft_f1(confidence, correct),
        }
