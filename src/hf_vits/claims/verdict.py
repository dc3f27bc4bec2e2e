"""The verdict on a claim, from numbers alone."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .results import Results

HELD, NOT_HELD, UNDECIDABLE, NOT_RUN = "held", "not held", "not decidable at this size", "not run"
ERRORS = 2  # standard errors that a mean difference must exceed
CRITERION = (
    "Sides are compared seed by seed. A claim is *held* where the mean difference over the seeds exceeds twice its "
    "standard error in the direction of the claim, *not held* where it does so in the other direction, and otherwise "
    "*not decidable at this size*. Of several comparisons all must hold, and one that does not is enough for *not "
    "held*. If two sides were alike, three seeds would give *held* by chance in 9 of 100 cases, five seeds in 6."
)


class Comparison(NamedTuple):
    """Two sides compared.

    Attributes:
        better, other: names of the sides, the one that is better by the claim first.
        mean: mean difference over the seeds, positive in the direction of the claim; for a claim that sides do not
            differ, the mean of the relative difference.
        error: standard error of the mean.
    """

    better: str
    other: str
    mean: float
    error: float
    verdict: str


def compare(
    better: Sequence[float], other: Sequence[float], lower_is_better: bool = False
) -> tuple[float, float, str]:
    """Return the mean paired difference, its standard error and the verdict."""
    difference = np.subtract(better, other) * (-1 if lower_is_better else 1)
    mean, error = mean_and_error(difference)
    bound = ERRORS * error
    return mean, error, HELD if mean > bound else NOT_HELD if mean < -bound else UNDECIDABLE


def compare_within(one: Sequence[float], other: Sequence[float], within: float) -> tuple[float, float, str]:
    """Return the mean relative difference, its standard error, and whether it lies within the given bound."""
    mean, error = mean_and_error(np.divide(one, other) - 1)
    low, high = abs(mean) - ERRORS * error, abs(mean) + ERRORS * error
    return mean, error, HELD if high < within else NOT_HELD if low > within else UNDECIDABLE


def mean_and_error(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the mean of values and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def comparisons(results: Results) -> list[Comparison]:
    """Return the comparisons of a claim whose runs are finished; those without results of all seeds are left out."""
    claim, found = results.claim, []
    lower = claim.lower_is_better or claim.curve is not None
    for better, other in claim.pairs:
        one, two = results.values(better), results.values(other)
        if None in one or None in two:
            continue
        if claim.within is None:
            found.append(Comparison(better, other, *compare(one, two, lower)))  # pyright: ignore[reportArgumentType]
        else:
            found.append(Comparison(better, other, *compare_within(one, two, claim.within)))  # pyright: ignore[reportArgumentType]
    return found


def verdict(results: Results) -> str:
    """Return `HELD`, `NOT_HELD`, `UNDECIDABLE`, or `NOT_RUN` where runs are missing."""
    if results.remaining():
        return NOT_RUN
    found = [comparison.verdict for comparison in comparisons(results)]
    if NOT_HELD in found:
        return NOT_HELD
    return HELD if found.count(HELD) == len(results.claim.pairs) else UNDECIDABLE
