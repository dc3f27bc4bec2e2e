"""Streams of tasks: the classes of a data set, divided among tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .splits import Split


def split_sizes(num_classes: int, num_tasks: int, first: int | None = None) -> list[int]:
    """Return the number of classes of each task (srvCodes/continual_learning_with_vit, datasets/memory_dataset.py).

    Classes are divided evenly, one more for the earliest tasks where they do not divide.

    Args:
        first: number of classes of the first task; the others share the rest. None: as many as the others.

    Raises:
        ValueError: a task would have no class.
    """
    if num_tasks < 1 or (first is not None and (first < 1 or (num_tasks == 1 and first != num_classes))):
        raise ValueError(
            f"expected one or more tasks, the first with one or more classes, got {num_tasks} tasks and {first} "
            f"classes in the first of {num_classes}"
        )
    rest, tasks = (num_classes, num_tasks) if first is None else (num_classes - first, num_tasks - 1)
    if rest < tasks:
        raise ValueError(
            f"{num_classes} classes do not suffice for {num_tasks} tasks"
            f"{'' if first is None else f' of which the first has {first}'}: every task needs at least one class"
        )
    sizes = [rest // tasks + (number < rest % tasks) for number in range(tasks)]
    return sizes if first is None else [first, *sizes]


@dataclass(frozen=True)
class ClassSplit:
    """Classes in the order in which a stream of tasks presents them.

    Attributes:
        order: classes of the data, in their order in the stream.
        sizes: number of classes of each task.
    """

    order: tuple[int, ...]
    sizes: tuple[int, ...]

    def __post_init__(self):
        if len(set(self.order)) < len(self.order):
            repeated = sorted({label for label in self.order if self.order.count(label) > 1})
            raise ValueError(f"a class can be in one task only, but {repeated} occur more than once")
        if min(self.sizes, default=0) < 1 or sum(self.sizes) != len(self.order):
            raise ValueError(f"tasks of {list(self.sizes)} classes do not divide {len(self.order)} classes")

    @property
    def offsets(self) -> list[int]:
        """Position of each task's first class in `order`."""
        return [sum(self.sizes[:task]) for task in range(len(self.sizes))]

    def positions(self, labels: np.ndarray) -> np.ndarray:
        """Return the position in `order` of each label (samples,); -1 for classes outside the stream."""
        table = np.full(max(int(labels.max(initial=-1)), *self.order) + 1, -1)
        table[list(self.order)] = np.arange(len(self.order))
        return table[labels]

    def tasks(self, labels: np.ndarray) -> np.ndarray:
        """Return the task of each label (samples,); -1 for classes outside the stream."""
        positions = self.positions(labels)
        return np.where(positions < 0, -1, np.searchsorted(np.cumsum(self.sizes), positions, side="right"))

    def tasks_of(self, split: Split) -> np.ndarray:
        """Return the task of each input of a split (inputs,)."""
        return self.tasks(split.labels)

    def members(self, task: int) -> tuple[int, ...]:
        """Return the classes of a task."""
        start = self.offsets[task]
        return self.order[start : start + self.sizes[task]]


def class_split(
    num_classes: int,
    num_tasks: int,
    first: int | None = None,
    order: Sequence[int] | None = None,
    seed: int | None = None,
) -> ClassSplit:
    """Return the division of classes among tasks.

    Args:
        first: number of classes of the first task, see `split_sizes`.
        order: classes in the order of the stream, which may be a part of all; None for their own order.
        seed: shuffles the order; None leaves it.
    """
    chosen = list(range(num_classes)) if order is None else list(order)
    if outside := [label for label in chosen if not 0 <= label < num_classes]:
        raise ValueError(f"classes are numbered from 0 to {num_classes - 1}, got {outside} in the order of the stream")
    if seed is not None:
        chosen = [chosen[index] for index in np.random.default_rng(seed).permutation(len(chosen))]
    return ClassSplit(tuple(chosen), tuple(split_sizes(len(chosen), num_tasks, first)))
