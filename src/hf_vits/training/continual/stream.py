"""The batches of a stream of tasks, and the memory of earlier images."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from ..examples.batches import GlobalBatches, SampleKey
from ..examples.randomness import RandomStream, seed_at


class TaskBatches(GlobalBatches):
    """Global batches of a stream of tasks, each a function of the step and of the memory.

    Task t has a number of steps in proportion to its images. Its batches are drawn from its images and the memory
    together, in epochs of both.

    Args:
        tasks: task of each training image (images,).
        num_tasks: number of tasks.
        total_steps: of the whole stream.
        cumulative: whether a task's batches are drawn from all images so far, for joint training.
        division: as `GlobalBatches` takes them.

    Raises:
        ValueError: a task has no images, or no step.
    """

    def __init__(
        self,
        tasks: np.ndarray,
        num_tasks: int,
        batch_size: int,
        seed: int,
        total_steps: int,
        *,
        cumulative: bool = False,
        **division: int,
    ):
        super().__init__(len(tasks), batch_size, seed, **division)
        self.members = [np.flatnonzero(tasks == task) for task in range(num_tasks)]
        if empty := [task for task, members in enumerate(self.members) if not len(members)]:
            raise ValueError(f"task {empty[0] + 1} of {num_tasks} of the stream has no training images")
        counts = np.cumsum([len(members) for members in self.members])
        self.ends = [int(end) for end in np.round(total_steps * counts / counts[-1])]
        if min(np.diff([0, *self.ends])) < 1:
            raise ValueError(
                f"train.length gives {total_steps} steps to {len(self.ends)} tasks, and one of them gets none: make "
                "it longer"
            )
        self.cumulative = cumulative
        # Images of earlier tasks that a task rehearses, by task.
        self.memories: dict[int, np.ndarray] = {}

    def task_at(self, step: int) -> int:
        """Return the task that a step trains on."""
        return min(int(np.searchsorted(self.ends, step, side="right")), len(self.ends) - 1)

    def start(self, task: int) -> int:
        """Return the first step of a task."""
        return self.ends[task - 1] if task else 0

    def pool(self, task: int) -> np.ndarray:
        """Return the images (indices,) from which a task's batches are drawn."""
        if self.cumulative:
            return np.concatenate(self.members[: task + 1])
        return np.concatenate([self.members[task], self.memories.get(task, np.empty(0, dtype=np.int64))])

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for number in range(self.batches_per_epoch):
            step = self.epoch * self.batches_per_epoch + number
            task = self.task_at(step)
            pool = self.pool(task)
            first = (step - self.start(task)) * self.batch_size
            for accumulated in range(self.accumulation):
                begin = self.part(accumulated) * self.part_size
                places = range(begin, begin + self.part_size)
                yield [self._drawn(pool, task, step, first + place, place) for place in places]

    def _drawn(self, pool: np.ndarray, task: int, step: int, position: int, place: int) -> SampleKey:
        epoch, position = divmod(position, len(pool))
        index = int(pool[shuffled(len(pool), seed_at(self.seed, RandomStream.ORDER, task, epoch))[position]])
        seed = seed_at(self.seed, RandomStream.AUGMENTATION, step, place)
        return SampleKey(index, seed, None, seed, step // self.batches_per_epoch)


@lru_cache(maxsize=4)
def shuffled(count: int, seed: int) -> np.ndarray:
    """Return a random permutation of `count` numbers."""
    return np.random.default_rng(seed).permutation(count)


def ring(members: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Return the last images of each class, as many of each as fit into `size`, one more for the first classes.

    Args:
        members: images (indices,) of each class, in the order in which they came.
    """
    quotas = quota_of([len(images) for images in members], size)
    return np.concatenate([images[len(images) - quota :] for images, quota in zip(members, quotas, strict=True)])


def reservoir(members: Sequence[np.ndarray], size: int, seed: int) -> np.ndarray:
    """Return what reservoir sampling keeps of all images: `size` of them, each with the same probability."""
    images = np.concatenate(members)
    return np.sort(np.random.default_rng(seed).permutation(images)[:size])


def herding(features: Sequence[np.ndarray], members: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Return images of each class whose mean feature is nearest to the class's, chosen greedily (iCaRL, 1611.07725).

    Args:
        features: of each class, (images, channels), normalised here.
        members: the images (indices,) of each class.
    """
    chosen = []
    quotas = quota_of([len(images) for images in members], size)
    for values, images, quota in zip(features, members, quotas, strict=True):
        values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        mean, total, left = values.mean(axis=0), np.zeros(values.shape[1]), np.ones(len(values), dtype=bool)
        for count in range(1, quota + 1):
            distances = np.linalg.norm(mean - (total + values) / count, axis=1)
            best = int(np.where(left, distances, np.inf).argmin())
            left[best] = False
            total = total + values[best]
            chosen.append(images[best])
    return np.array(chosen, dtype=np.int64)


def quota_of(counts: Sequence[int], size: int) -> list[int]:
    """Return how many images of each class a memory of `size` keeps: equally many, where there are so many."""
    quotas = [0] * len(counts)
    for _ in range(min(size, sum(counts))):
        open_classes = [index for index, count in enumerate(counts) if quotas[index] < count]
        quotas[min(open_classes, key=lambda index: quotas[index])] += 1
    return quotas
