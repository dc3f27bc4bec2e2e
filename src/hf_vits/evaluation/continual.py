"""Continual learning measured: accuracy by task, forgetting, transfer, and class prototypes of a frozen encoder.

Conventions of srvCodes/continual_learning_with_vit (src/main_incremental.py) and francesco-p/off-the-shelf-cl
(arXiv 2205.01586). `accuracy[i, u]` is the accuracy on task u after task i was learned.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def classes_per_task(num_classes: int, num_tasks: int, first: int | None = None) -> list[int]:
    """Return how many classes each task has: as equal as possible, earlier tasks have the larger number.

    Args:
        first: number of classes of the first task; None for as many as the others.
    """
    if num_tasks < 1 or num_tasks > num_classes:
        raise ValueError(f"the number of tasks must be 1 to {num_classes}, the classes, got {num_tasks}")
    if first is None:
        share, more = divmod(num_classes, num_tasks)
        return [share + (task < more) for task in range(num_tasks)]
    rest = num_classes - first
    if first < 1 or rest < num_tasks - 1 or (num_tasks == 1 and rest):
        raise ValueError(
            f"{first} of {num_classes} classes in the first task leave {rest} for {num_tasks - 1} more tasks, each of "
            "which needs one or more"
        )
    return [first, *(classes_per_task(rest, num_tasks - 1) if num_tasks > 1 else [])]


def split_classes(
    labels: Sequence[int] | np.ndarray, class_order: Sequence[int], counts: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the task and the position in `class_order` of each sample; -1 for classes that are not in the order.

    Args:
        labels: (samples,) classes.
        class_order: the classes in the order in which they come, each once.
        counts: classes of each task, see `classes_per_task`.
    """
    if len(set(class_order)) != len(class_order):
        twice = sorted({name for name in class_order if list(class_order).count(name) > 1})
        raise ValueError(f"each class belongs to one task, but class_order has {twice} more than once")
    if sum(counts) != len(class_order):
        raise ValueError(f"the tasks have {sum(counts)} classes, class_order has {len(class_order)}")
    position = {name: index for index, name in enumerate(class_order)}
    positions = np.array([position.get(label, -1) for label in np.asarray(labels).tolist()], dtype=np.int64)
    tasks = np.searchsorted(np.cumsum(counts), positions, side="right")
    return np.where(positions < 0, -1, tasks), positions


def hits(
    logits: Tensor, labels: Tensor, counts: Sequence[int], log_softmax_per_head: bool = False
) -> tuple[Tensor, Tensor]:
    """Return which samples (batch,) are right, given the task and not given it.

    Args:
        logits: (batch, classes), the heads of all tasks one after the other.
        labels: (batch,) classes in the order of the heads.
        counts: classes of each task.
        log_softmax_per_head: whether the heads are compared by log-probabilities within each, instead of logits.
    """
    heads = logits.split(list(counts), dim=1)
    starts = torch.cumsum(torch.tensor([0, *counts]), 0)
    tasks = torch.searchsorted(starts[1:], labels.cpu(), right=True)
    within = torch.stack([head.argmax(dim=1).cpu() + start for head, start in zip(heads, starts, strict=False)])
    aware = within.gather(0, tasks[None])[0].to(labels.device) == labels
    joined = torch.cat([head.log_softmax(dim=1) for head in heads], dim=1) if log_softmax_per_head else logits
    return aware, joined.argmax(dim=1) == labels


def forgetting(accuracy: np.ndarray) -> np.ndarray:
    """Return the forgetting (tasks, tasks) of task u after task i: the best accuracy before minus the present one."""
    lost = np.zeros_like(accuracy)
    for after in range(1, len(accuracy)):
        lost[after, :after] = accuracy[:after, :after].max(axis=0) - accuracy[after, :after]
    return lost


def seen_average(values: np.ndarray, counts: Sequence[int] | None = None) -> np.ndarray:
    """Return for each row i the mean (tasks,) over the tasks 0 to i; weighted by `counts`, if given."""
    weights = np.tril(np.ones(values.shape)) * (1 if counts is None else np.asarray(counts))
    return (values * weights).sum(axis=1) / weights.sum(axis=1)


def summary(accuracy: np.ndarray, counts: Sequence[int], untrained: np.ndarray | None = None) -> dict[str, float]:
    """Return the figures of a run over all tasks.

    Args:
        accuracy: (tasks, tasks), with the accuracy on tasks that are not learned yet above the diagonal.
        counts: classes of each task.
        untrained: (tasks,), accuracy of a model that learned none of them, for `forward_transfer`.

    Returns:
        `average_accuracy` and `weighted_average_accuracy` after the last task, `forgetting` (mean over all tasks but
        the last), `backward_transfer` (mean change of a task's accuracy since it was learned; Lopez-Paz and Ranzato,
        arXiv 1706.08840), and with `untrained` `forward_transfer`.
    """
    tasks = len(accuracy)
    found = {
        "average_accuracy": seen_average(accuracy)[-1],
        "weighted_average_accuracy": seen_average(accuracy, counts)[-1],
        "forgetting": forgetting(accuracy)[-1, :-1].mean() if tasks > 1 else 0.0,
        "backward_transfer": (accuracy[-1] - accuracy.diagonal())[:-1].mean() if tasks > 1 else 0.0,
    }
    if untrained is not None and tasks > 1:
        found["forward_transfer"] = (accuracy.diagonal(offset=1) - untrained[1:]).mean()
    return {name: float(value) for name, value in found.items()}


def prototypes(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the mean feature (classes, channels) of each class; ValueError for a class without samples."""
    counts = torch.bincount(labels, minlength=num_classes)
    if (missing := (counts == 0).nonzero().flatten().tolist()) or len(counts) > num_classes:
        raise ValueError(
            f"classes {missing} have no sample"
            if missing
            else f"labels must be classes 0 to {num_classes - 1}, got {int(labels.max())}"
        )
    total = torch.zeros(num_classes, features.shape[1], dtype=features.dtype).index_add_(0, labels, features)
    return total / counts[:, None]


def distances(queries: Tensor, centres: Tensor) -> Tensor:
    """Return the Euclidean distances (queries, classes) of features to prototypes."""
    return torch.cdist(queries, centres, compute_mode="donot_use_mm_for_euclid_dist")
