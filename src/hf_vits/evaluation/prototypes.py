"""Nearest class mean on frozen features, the baseline of continual learning without any training.

Pelosin, "Simpler is Better: off-the-shelf Continual Learning Through Pretrained Backbones", arXiv 2205.01586;
francesco-p/off-the-shelf-cl (off_the_shelf.py). Classes are added one after another, in any order, and nothing is
forgotten.
"""

import torch
from torch import Tensor


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the prototypes (classes, channels), the mean features of each class.

    Args:
        features: (images, channels).
        labels: (images,), from 0.

    Raises:
        ValueError: a class has no image, or a label is no class.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"labels must be from 0 to {num_classes - 1}, got {int(labels.min())} to {int(labels.max())}")
    counts = torch.bincount(labels, minlength=num_classes)
    if missing := (counts == 0).nonzero().flatten().tolist():
        raise ValueError(f"every class needs an image for its prototype; there is none of classes {missing[:10]}")
    sums = features.new_zeros(num_classes, features.shape[1]).index_add_(0, labels, features)
    return sums / counts[:, None].to(features.dtype)


def distances(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return the Euclidean distances (images, classes) of features to prototypes."""
    return torch.cdist(features, prototypes)


def classify(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return the class (images,) of the nearest prototype."""
    return distances(features, prototypes).argmin(dim=1)
