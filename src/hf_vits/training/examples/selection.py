"""Evenly spaced samples, for what looks at a part of a split."""

import numpy as np
from torch.utils.data import Dataset, Subset


def spaced_indices(length: int, count: int) -> list[int]:
    """Return `count` indices below `length`, evenly spaced from the first to the last; all if there are fewer."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()


def spaced_subset(dataset: Dataset, count: int | None) -> Dataset:
    """Return `count` evenly spaced items of a data set; None: all of it."""
    return dataset if count is None else Subset(dataset, spaced_indices(len(dataset), count))
