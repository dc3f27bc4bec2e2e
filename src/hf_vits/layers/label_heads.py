"""Several classification heads in one linear layer: logits (batch, sum(head_sizes)), the heads' logits concatenated.

Used for Epic-Kitchens, where a clip has a noun and a verb; google-research/scenic, projects/vivit/model.py and
model_utils.py.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F


def multi_head_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, head_sizes: Sequence[int], label_smoothing: float = 0.0
) -> torch.Tensor:
    """Return the softmax cross-entropy, averaged over the batch and then over the heads.

    Args:
        labels: (batch, heads) class indices, or (batch, sum(head_sizes)) with a distribution per head.

    Raises ValueError for labels of another shape.
    """
    sizes = list(head_sizes)
    if labels.is_floating_point() and labels.shape == logits.shape:
        targets = labels.split(sizes, dim=1)
    elif not labels.is_floating_point() and labels.shape == (len(logits), len(sizes)):
        targets = labels.unbind(1)
    else:
        raise ValueError(
            f"labels of heads of {sizes} classes are whole numbers of shape ({len(logits)}, {len(sizes)}) or "
            f"distributions of shape {tuple(logits.shape)}, got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    losses = [
        F.cross_entropy(head, target, label_smoothing=label_smoothing)
        for head, target in zip(logits.split(sizes, dim=1), targets, strict=True)
    ]
    return torch.stack(losses).mean()


def log_probabilities(logits: torch.Tensor, head_sizes: Sequence[int] | None = None) -> torch.Tensor:
    """Return log-probabilities (..., classes) of logits (..., classes), with a softmax per head.

    head_sizes: number of classes of each head; None for a single head.
    """
    if head_sizes is None:
        return logits.log_softmax(dim=-1)
    return torch.cat([head.log_softmax(dim=-1) for head in logits.split(list(head_sizes), dim=-1)], dim=-1)


def joint_scores(logits: torch.Tensor, head_sizes: Sequence[int]) -> torch.Tensor:
    """Return the probability of every combination of classes: the product of the heads' probabilities.

    Returns:
        (batch, prod(head_sizes)); class a of the first head and b of the second are at `a * head_sizes[1] + b`.
    """
    scores = logits.new_ones(len(logits), 1)
    for head in logits.split(list(head_sizes), dim=1):
        scores = (scores[:, :, None] * head.softmax(dim=1)[:, None]).flatten(1)
    return scores


def joint_labels(labels: torch.Tensor, head_sizes: Sequence[int]) -> torch.Tensor:
    """Map class indices (batch, heads) to indices (batch,) into `joint_scores`."""
    weights = [math.prod(head_sizes[index + 1 :]) for index in range(len(head_sizes))]
    return (labels * labels.new_tensor(weights)).sum(dim=1)
