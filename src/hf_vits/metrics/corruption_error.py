"""Mean corruption error of ImageNet-C as an `evaluate` module, loaded by its path since a name needs a network.

Hendrycks and Dietterich, arXiv 1903.12261, section 4; google-research/augmix (imagenet.py, `compute_mce`).
"""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = "Errors on corrupted images, divided by a baseline's, averaged over corruptions, in percent."

_INPUTS = """
Args:
    predictions: for each corruption, the accuracy, from 0 to 1, at each severity.
    baseline_accuracy: the same of the model that errors are divided by; None for AlexNet on ImageNet-C, with the 15
        corruptions in the order of the paper.
    clean_accuracy, baseline_clean_accuracy: accuracies without corruption, for the relative errors; None for none.
Returns:
    mean_corruption_error; corruption_errors, one for each corruption; mean_accuracy; accuracy_by_severity; with clean
    accuracies also mean_relative_corruption_error and relative_corruption_errors. Errors are in percent of the
    baseline's.
"""

# AlexNet's mean errors over the severities, in the order of the paper: noise (gaussian, shot, impulse), blur (defocus,
# glass, motion, zoom), weather (snow, frost, fog, brightness), digital (contrast, elastic, pixelate, JPEG).
ALEXNET_ERRORS = (0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360)
ALEXNET_ERRORS += (0.866816, 0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500)


def corruption_errors(accuracy, baseline_errors=ALEXNET_ERRORS, clean_error=0.0, baseline_clean_error=0.0):
    """Return the corruption errors (corruptions,) in percent of a baseline's.

    Args:
        accuracy: (corruptions, severities), from 0 to 1. Errors are averaged over severities before the division.
        baseline_errors: (corruptions,), averaged over severities.
        clean_error, baseline_clean_error: subtracted from both errors, for relative corruption errors.

    Raises:
        ValueError: the numbers of corruptions differ.
    """
    accuracy, baseline = np.asarray(accuracy, np.float64), np.asarray(baseline_errors, np.float64)
    if accuracy.ndim != 2 or len(accuracy) != len(baseline):
        raise ValueError(
            f"accuracy must be ({len(baseline)} corruptions, severities) as in the baseline, got shape "
            f"{accuracy.shape}"
        )
    return 100 * (1 - accuracy.mean(axis=1) - clean_error) / (baseline - baseline_clean_error)


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class CorruptionError(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Sequence(datasets.Value("float64"))}),
        )

    def _compute(self, predictions, baseline_accuracy=None, clean_accuracy=None, baseline_clean_accuracy=None):
        accuracy = np.asarray(predictions, np.float64)
        baseline = ALEXNET_ERRORS
        if baseline_accuracy is not None:
            baseline = 1 - np.asarray(baseline_accuracy, np.float64).mean(axis=1)
        errors = corruption_errors(accuracy, baseline)
        result = {
            "mean_corruption_error": float(errors.mean()),
            "corruption_errors": errors.tolist(),
            "mean_accuracy": float(accuracy.mean()),
            "accuracy_by_severity": accuracy.mean(axis=0).tolist(),
        }
        if clean_accuracy is None or baseline_clean_accuracy is None:
            return result
        relative = corruption_errors(accuracy, baseline, 1 - clean_accuracy, 1 - baseline_clean_accuracy)
        return result | {
            "mean_relative_corruption_error": float(relative.mean()),
            "relative_corruption_errors": relative.tolist(),
        }
