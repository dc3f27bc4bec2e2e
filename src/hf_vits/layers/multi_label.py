"""Several labels of one input, some of which are unknown or known in advance.

Labels are (batch, num_labels): 1 for positive, 0 for negative, NaN for unknown ones. Known labels are what a model is
given of them: 1 for positive, 0 for negative, -1 for unknown.
"""

from typing import Literal

import torch
import torch.nn.functional as F

UNKNOWN = -1


def draw_known_labels(labels: torch.Tensor, fraction: float) -> torch.Tensor:
    """Make a random part of the labels known, as in the training of C-Tran (arXiv 2011.14027, section 3.3).

    QData/C-Tran, dataloaders/data_utils.py. The number of known labels is drawn uniformly for each input.

    Args:
        labels: (batch, num_labels); those that are NaN stay unknown.
        fraction: the largest fraction of the labels that becomes known.

    Returns:
        Known labels (batch, num_labels).

    Raises:
        ValueError: labels are not (batch, num_labels).
    """
    if labels.ndim != 2:
        raise ValueError(
            f"labels must be (batch, labels), of which some are made known, got {tuple(labels.shape)}: "
            "objective.loss: masked is for data with several labels"
        )
    batch, num_labels = labels.shape
    count = torch.randint(int(num_labels * fraction) + 1, (batch, 1), device=labels.device)
    rank = torch.rand(labels.shape, device=labels.device).argsort(dim=1).argsort(dim=1)
    is_known = (rank < count) & ~labels.isnan()
    return torch.where(is_known, labels.round(), UNKNOWN)


def without_known(labels: torch.Tensor, known_labels: torch.Tensor) -> torch.Tensor:
    """Return labels with NaN in place of those that are known, so that no loss counts them."""
    return labels.masked_fill(known_labels != UNKNOWN, torch.nan)


def binary_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, reduction: Literal["mean", "sum"] = "mean"
) -> torch.Tensor:
    """Return the binary cross-entropy of labels (batch, num_labels), over those that are not NaN.

    Where all are NaN it is zero.
    """
    counted = ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    total = losses.masked_fill(~counted, 0).sum()
    return total if reduction == "sum" else total / counted.sum().clamp(min=1)
