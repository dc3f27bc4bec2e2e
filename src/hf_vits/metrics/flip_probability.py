"""Stability of predictions in a sequence of frames as an `evaluate` module, loaded by its path.

Hendrycks and Dietterich, arXiv 1903.12261, section 4; hendrycks/robustness (ImageNet-P/test.py).
"""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = "How often the predicted class, and how much the ranking of classes, changes between perturbed frames."

_INPUTS = """
Args:
    predictions: for each sequence, for each frame, the logits of all classes.
    is_noise: whether frames are compared with the first one, as in sequences of noise, instead of an earlier one.
    difficulty: how many frames earlier; of no effect on noise.
Returns:
    flip_probability: fraction of compared frames whose class differs; top5_distance and zipf_distance between their
    rankings. Divide them by a baseline's for flip rates.
"""


def compared_frames(num_frames: int, is_noise: bool = False, difficulty: int = 1) -> np.ndarray:
    """Return (comparisons, 2): an earlier frame and the one that is compared with it.

    Raises:
        ValueError: the sequence is too short to compare any.
    """
    step = 1 if is_noise else difficulty
    later = np.arange(step, num_frames)
    if step < 1 or not len(later):
        raise ValueError(f"{num_frames} frames are too few to compare each with one {difficulty} frames earlier")
    return np.stack([np.zeros_like(later) if is_noise else later - step, later], axis=1)


def flip_probability(predictions, is_noise: bool = False, difficulty: int = 1) -> float:
    """Return the fraction of compared frames of another class; predictions are (sequences, frames) class indices."""
    predictions = np.asarray(predictions)
    before, after = compared_frames(predictions.shape[1], is_noise, difficulty).T
    return float((predictions[:, before] != predictions[:, after]).mean())


def ranks(logits) -> np.ndarray:
    """Return the place of each class, 1 for the highest logit; equal logits in the order of classes."""
    order = np.argsort(-np.asarray(logits), axis=-1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(1, order.shape[-1] + 1) + np.zeros_like(order), axis=-1)
    return places


def rank_distance(logits, kind: str = "top5", is_noise: bool = False, difficulty: int = 1) -> float:
    """Return the mean distance between the rankings of compared frames.

    Args:
        logits: (sequences, frames, classes).
        kind: "top5", how much classes enter and leave the best five, or "zipf", over all ranks, weighted by 1 / rank.
    """
    if kind not in ("top5", "zipf"):
        raise ValueError(f'kind must be "top5" or "zipf", got {kind!r}')
    places = ranks(logits)
    before, after = compared_frames(places.shape[1], is_noise, difficulty).T
    # The new place of the class that had place 1, 2, ...
    moved = np.take_along_axis(places[:, after], np.argsort(places[:, before], axis=-1), axis=-1)
    if kind == "zipf":
        weights = 1.0 / np.arange(1, places.shape[-1] + 1)
        return float((np.abs(weights - weights[moved - 1]) * weights).sum(axis=-1).mean())
    place = np.arange(places.shape[-1])
    counted = np.minimum(place, 5)  # how many of the best five come before
    return float(np.abs(counted[:5] - counted[moved[..., :5] - 1]).sum(axis=-1).mean())


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class FlipProbability(evaluate.Metric):
    def _info(self):
        frames = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": frames}),
        )

    def _compute(self, predictions, is_noise=False, difficulty=1):
        logits = np.asarray(predictions, np.float64)
        return {
            "flip_probability": flip_probability(logits.argmax(axis=-1), is_noise, difficulty),
            "top5_distance": rank_distance(logits, "top5", is_noise, difficulty),
            "zipf_distance": rank_distance(logits, "zipf", is_noise, difficulty),
        }
