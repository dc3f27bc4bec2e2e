"""Measures of continual learning, from the accuracies on every task after each task was learned.

srvCodes/continual_learning_with_vit (main_incremental.py, utils.py); transfer as in Lopez-Paz and Ranzato, "Gradient
Episodic Memory for Continual Learning", arXiv 1706.08840, section 2.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def hits(logits: Tensor, labels: Tensor, task_sizes: Sequence[int], per_head: bool = False) -> tuple[Tensor, Tensor]:
    """Return which images (batch,) are classified correctly, task-aware and task-agnostic.

    Args:
        logits: (batch, classes), the classes of all tasks in their order.
        labels: (batch,).
        task_sizes: number of classes of each task.
        per_head: whether the task-agnostic prediction takes a log-softmax over the classes of each task first.

    Returns:
        Two boolean tensors: the best class of the label's task is the label; the best of all classes is.
    """
    tasks = torch.repeat_interleave(torch.arange(len(task_sizes)), torch.tensor(task_sizes)).to(labels.device)
    inside = tasks[labels][:, None] == tasks[: logits.shape[1]]
    aware = logits.masked_fill(~inside, -torch.inf).argmax(dim=1)
    if per_head:
        logits = torch.cat([head.log_softmax(dim=1) for head in logits.split(list(task_sizes), dim=1)], dim=1)
    return aware == labels, logits.argmax(dim=1) == labels


def forgetting(accuracy: np.ndarray) -> np.ndarray:
    """Return how far each task's accuracy lies below the best before: (tasks, tasks), 0 on and above the diagonal.

    Args:
        accuracy: (tasks, tasks), row i after learning task i, column u on task u.
    """
    result = np.zeros_like(accuracy)
    for task in range(1, len(accuracy)):
        result[task, :task] = accuracy[:task, :task].max(axis=0) - accuracy[task, :task]
    return result


def averages(accuracy: np.ndarray, weights: Sequence[float] | None = None) -> np.ndarray:
    """Return after each task the mean accuracy on the tasks so far (tasks,), weighted such as by their classes."""
    seen = np.tril(np.ones_like(accuracy) * (1 if weights is None else np.asarray(weights, dtype=float)))
    return (np.tril(accuracy) * seen).sum(axis=1) / seen.sum(axis=1)


def final_forgetting(accuracy: np.ndarray) -> float:
    """Return the mean forgetting of all tasks but the last after the last; 0 for one task."""
    return float(forgetting(accuracy)[-1, :-1].mean()) if len(accuracy) > 1 else 0.0


def backward_transfer(accuracy: np.ndarray) -> float:
    """Return the mean change of each task's accuracy from when it was learned to the end; 0 for one task."""
    earlier = np.arange(len(accuracy) - 1)
    return float((accuracy[-1, :-1] - accuracy[earlier, earlier]).mean()) if len(earlier) else 0.0


def forward_transfer(accuracy: np.ndarray, untrained: Sequence[float]) -> float:
    """Return the mean accuracy on each task just before it is learned, above the untrained model's; 0 for one task.

    Args:
        untrained: accuracy of the model on each task before any was learned.
    """
    later = np.arange(1, len(accuracy))
    return float((accuracy[later - 1, later] - np.asarray(untrained)[1:]).mean()) if len(later) else 0.0


def summary(
    accuracy: np.ndarray, class_counts: Sequence[int], untrained: Sequence[float] | None = None
) -> dict[str, float]:
    """Return the measures after the last task, of one accuracy matrix (tasks, tasks).

    Args:
        class_counts: number of classes of each task.
        untrained: accuracies before training; None leaves out forward transfer, which needs a known task.
    """
    measures = {
        "average": float(averages(accuracy)[-1]),
        "weighted_average": float(averages(accuracy, class_counts)[-1]),
        "forgetting": final_forgetting(accuracy),
        "backward_transfer": backward_transfer(accuracy),
    }
    return measures if untrained is None else measures | {"forward_transfer": forward_transfer(accuracy, untrained)}
