"""Errors of predicted numbers."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import r2_score


def regression_metrics(predicted: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Return mae, mse and r2 of predictions, averaged over targets; of several targets also each one's.

    mae and mse are the mean absolute and squared error, in the units of the data; r2 is the coefficient of
    determination: 1 for perfect predictions, 0 for predicting the mean. Of fewer than two inputs there is no r2.

    Args:
        predicted, targets: (inputs, targets).
        names: of the targets; the errors of each are called <name>_mae and so on.
    """
    rows = of_each_target(predicted, targets)
    scores = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    if len(names) > 1:
        scores |= {f"{name}_{key}": value for name, row in zip(names, rows, strict=True) for key, value in row.items()}
    return scores


def of_each_target(predicted: np.ndarray, targets: np.ndarray) -> list[dict[str, float]]:
    """Return mae, mse and r2 of each target, see `regression_metrics`."""
    errors = predicted.astype(np.float64) - targets
    rows = [{"mae": float(np.abs(one).mean()), "mse": float(np.square(one).mean())} for one in errors.T]
    if len(targets) < 2:
        return rows
    determined = np.atleast_1d(r2_score(targets, predicted, multioutput="raw_values"))
    return [row | {"r2": float(value)} for row, value in zip(rows, determined, strict=True)]
