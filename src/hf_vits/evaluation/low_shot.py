"""Classification from few labelled images: a logistic regression on frozen features."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from torch import Tensor, from_numpy
from torch.nn.functional import normalize
from tqdm import tqdm

from .neighbours import top_accuracy


def accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    shots: int | float,
    draws: int = 3,
    penalty: float = 0.1,
    seed: int = 0,
) -> dict[str, float]:
    """How well test images are told apart by what few training images teach, drawn at random several times.

    As DINO and iBOT do it (bytedance/ibot, evaluation/eval_logistic_regression.py): features of length 1, no
    intercept, a squared norm as penalty. Its weight is over the number of images, as the author of the solver had it
    for DINO (facebookresearch/dino, issue 121); iBOT's script leaves that out, and its results are worse.

    Args:
        train_features, test_features: (images, channels).
        train_labels, test_labels: (images,), from 0.
        shots: images of each class, or as a float the share of each class; at least one image of each.
        draws: over how many draws the accuracy is averaged.
        penalty: weight of the penalty, times the number of images; MSN's is 0.00025.

    Returns:
        images in a draw; top1 and top5, each from 0 to 1 and a mean over draws; top1_deviation, over draws.

    Raises:
        ValueError: a class has fewer images than are to be drawn.
    """
    train, labels = normalize(train_features, dim=1).cpu().numpy(), train_labels.cpu().numpy()
    test, test_labels = normalize(test_features, dim=1).cpu().numpy(), test_labels.cpu()
    results = []
    for draw in tqdm(range(draws), desc="Low-shot", unit="draw", leave=False, disable=None):
        chosen = choose(labels, shots, np.random.default_rng((seed, draw)))
        classifier = fit(train[chosen], labels[chosen], penalty)
        probabilities = np.zeros((len(test), max(labels.max(), test_labels.max().item()) + 1))
        probabilities[:, classifier.classes_] = classifier.predict_proba(test)
        votes = from_numpy(probabilities)
        results.append([top_accuracy(votes, test_labels, k) for k in (1, 5)])
    top1, top5 = np.array(results).T
    return {
        "images": len(chosen),
        "top1": float(top1.mean()),
        "top1_deviation": float(top1.std()),
        "top5": float(top5.mean()),
    }


def fit(features: np.ndarray, labels: np.ndarray, penalty: float) -> LogisticRegression:
    """The classifier of least mean loss plus half the squared norm times `penalty` / images."""
    return LogisticRegression(C=1 / penalty, fit_intercept=False, max_iter=1000).fit(features, labels)


def choose(labels: np.ndarray, shots: int | float, generator: np.random.Generator) -> np.ndarray:
    """Indices of so many, or such a share, of the images of each class, in ascending order."""
    chosen = []
    for label in np.unique(labels):
        images = np.flatnonzero(labels == label)
        number = shots if isinstance(shots, int) else max(round(shots * len(images)), 1)
        if not 1 <= number <= len(images):
            raise ValueError(f"cannot draw {number} images of class {label}, which has {len(images)}")
        chosen.append(generator.choice(images, number, replace=False))
    return np.sort(np.concatenate(chosen))
