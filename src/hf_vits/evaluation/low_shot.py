"""Low-shot classification: a logistic regression on frozen features of few labelled images."""

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
    """Return the accuracy on test images of classifiers trained on few training images, drawn at random.

    As in DINO and iBOT (bytedance/ibot, evaluation/eval_logistic_regression.py): features normalised to length 1, no
    intercept, a squared norm as penalty. The penalty is divided by the number of images, as the solver's author
    advised for DINO (facebookresearch/dino, issue 121); iBOT's script does not, with worse results.

    Example: `accuracy(*extract(encoder, train_loader), *extract(encoder, test_loader), shots=5)["top1"]`.

    Args:
        train_features, test_features: (images, channels).
        train_labels, test_labels: (images,), from 0.
        shots: number of images of each class; a float is a fraction of each class, at least one image.
        draws: number of random draws.
        penalty: weight of the penalty, times the number of images; MSN's is 0.00025.
        seed: of the draws.

    Returns:
        images, their number in a draw; top1 and top5, from 0 to 1, means over draws; top1_deviation, the standard
        deviation over draws.

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
    """Return the classifier that minimises mean loss + penalty / (2 * images) * squared norm of the weights."""
    return LogisticRegression(C=1 / penalty, fit_intercept=False, max_iter=1000).fit(features, labels)


def choose(labels: np.ndarray, shots: int | float, generator: np.random.Generator) -> np.ndarray:
    """Return indices of `shots` random images, or a fraction of the images, of each class, in ascending order."""
    chosen = []
    for label in np.unique(labels):
        images = np.flatnonzero(labels == label)
        number = shots if isinstance(shots, int) else max(round(shots * len(images)), 1)
        if not 1 <= number <= len(images):
            raise ValueError(f"cannot draw {number} images of class {label}, which has {len(images)}")
        chosen.append(generator.choice(images, number, replace=False))
    return np.sort(np.concatenate(chosen))
