"""Streams: training inputs that are read one after the other from shards, in an order that repeats.

The sample at a place of the run (optimizer step, place in the batch) is a function of the seed and that place alone.
It depends neither on the number of processes and workers, nor on where the run was resumed. For this the shards are
divided among lanes, each with a shuffle buffer of its own, and each place of a batch takes from one lane:

- lanes of different places of a batch: a process reads the lanes of its part of the batch alone;
- lanes of different steps, in turn: of several workers, which have different steps, each reads some of these lanes.

A lane reads its shards once, in random order, then again in another order, and so on. Shards that are left over when
each lane has as many as the others go to another lane each time. So each time all lanes together read each sample
once, and where shards have the same size, all samples are used equally often.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hf_vits.recipe import DataRecipe

from .splits import Split

# Most lanes of a stream, and how many of them the places of one batch have at most.
_MOST_LANES, _MOST_IN_BATCH = 256, 16


class Shards(Protocol):
    """Shards of a data set, by number. A sample is anything from which they get an input and its class."""

    def __len__(self) -> int: ...

    def samples(self, number: int) -> Iterator[Any]:
        """Yield the samples of a shard; OSError that names it where it is damaged."""
        ...

    def input_of(self, sample: Any) -> Any:
        """Return the undecoded input of a sample."""
        ...

    def class_of(self, sample: Any) -> int:
        """Return the class of a sample."""
        ...

    def name_of(self, sample: Any) -> str:
        """Return how error messages name a sample."""
        ...


class Stream:
    """Samples of shards by their place in a run: step * samples of a batch + place in the batch.

    Places may be asked for in any order, but it is fast where every process asks in rising order.

    Args:
        shards: the shards.
        buffer: number of samples in all shuffle buffers together.
    """

    def __init__(self, shards: Shards, buffer: int):
        if not len(shards):
            raise ValueError("a stream needs one shard or more")
        self.shards, self.buffer = shards, buffer
        self._process, self._cursors = 0, {}
        self.plan(1, 0)

    def plan(self, batch: int, seed: int) -> None:
        """Set the number of samples of a global batch and the random seed of the order."""
        self.batch, self.seed = batch, seed
        lanes = min(_power_of_two(len(self.shards)), _MOST_LANES)
        self.across = min(lanes, _MOST_IN_BATCH)
        self.turns = lanes // self.across
        self._cursors = {}

    @property
    def lanes(self) -> int:
        """Return the number of lanes."""
        return self.across * self.turns

    def place(self, index: int) -> tuple[int, int]:
        """Return the lane of a sample, and the number of samples of this lane that come before."""
        step, slot = divmod(index, self.batch)
        turn, phase = divmod(step, self.turns)
        # The borders between the lanes of a batch move, so that in `across` turns each lane has a whole batch.
        cycle, moved = divmod(turn, self.across)
        group = ((slot + 1) * self.across - moved - 1) // self.batch
        before = sum(self._border(group + 1, turn) - self._border(group, turn) for turn in range(moved))
        return group * self.turns + phase, cycle * self.batch + before + slot - self._border(group, moved)

    def _border(self, group: int, moved: int) -> int:
        """Return the first place in a batch of a group of lanes."""
        return (group * self.batch + moved) // self.across

    def neighbour(self, index: int) -> int:
        """Return the place that follows in the same batch, after its last place the first."""
        step, slot = divmod(index, self.batch)
        return step * self.batch + (slot + 1) % self.batch

    def __getitem__(self, index: int) -> Any:
        lane, ordinal = self.place(index)
        if self._process != os.getpid():  # a worker must not share open files with the process that it comes from
            self._process, self._cursors = os.getpid(), {}
        if lane not in self._cursors or not self._cursors[lane].reaches(ordinal):
            self._cursors[lane] = _Cursor(self.samples(lane), 2 * -(-self.batch // self.across))
        return self._cursors[lane].sample(ordinal)

    def samples(self, lane: int) -> Iterator[Any]:
        """Yield the samples of a lane, over and over, each time in another order."""
        size = max(self.buffer // self.lanes, 1)
        for number in itertools.count():
            own = self.shards_of(lane, number)
            random = np.random.default_rng((self.seed, 1, lane, number))
            count, buffer = 0, []
            for sample in itertools.chain.from_iterable(map(self.shards.samples, random.permutation(own).tolist())):
                count += 1
                if len(buffer) < size:
                    buffer.append(sample)
                    continue
                chosen = int(random.integers(size))
                yield buffer[chosen]
                buffer[chosen] = sample
            yield from (buffer[chosen] for chosen in random.permutation(len(buffer)))
            if not count:
                raise ValueError(f"no samples in {len(own)} of {len(self.shards)} shards, all of a lane: remove them")

    def shards_of(self, lane: int, number: int) -> np.ndarray:
        """Return the shards that a lane reads in its pass of a number, counted from 0."""
        order = np.random.default_rng((self.seed, 0)).permutation(len(self.shards))
        each = len(order) // self.lanes
        own, others = order[lane * each : (lane + 1) * each], order[self.lanes * each :]
        left_over = (lane + number) % self.lanes
        return np.concatenate([own, others[left_over : left_over + 1]])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cursors": {}}


class _Cursor:
    """Samples of a lane by number, of which the last ones are kept.

    Args:
        kept: number of samples that stay available.
    """

    def __init__(self, samples: Iterator[Any], kept: int):
        self.samples, self.kept, self.last = samples, kept, -1
        self.recent: dict[int, Any] = {}

    def reaches(self, ordinal: int) -> bool:
        """Return whether a sample is kept or yet to come."""
        return ordinal > self.last or ordinal in self.recent

    def sample(self, ordinal: int) -> Any:
        """Return the sample of a number."""
        while self.last < ordinal:
            self.last += 1
            self.recent[self.last] = next(self.samples)
            self.recent.pop(self.last - self.kept, None)
        return self.recent[ordinal]


def _power_of_two(limit: int) -> int:
    return 1 << (limit.bit_length() - 1)


@dataclass(frozen=True)
class StreamInputs:
    """Inputs of a stream, undecoded."""

    stream: Stream

    def __getitem__(self, index: int) -> Any:
        return self.stream.shards.input_of(self.stream[index])

    def name_of(self, index: int) -> str:
        """Return how error messages name an input."""
        return self.stream.shards.name_of(self.stream[index])


class StreamLabels:
    """Labels of a stream: one class of each input.

    Args:
        epoch_inputs: number of inputs that count as an epoch; None: there are no epochs, and no length.
    """

    ndim, dtype = 1, np.dtype(np.int64)

    def __init__(self, stream: Stream, epoch_inputs: int | None):
        self.stream, self.epoch_inputs = stream, epoch_inputs

    def __getitem__(self, index: int) -> np.int64:
        return np.int64(self.stream.shards.class_of(self.stream[index]))

    def __len__(self) -> int:
        if self.epoch_inputs is None:
            raise TypeError("the length of a stream is unknown; data.epoch_inputs sets one")
        return self.epoch_inputs


def class_index(label: Any, class_names: Sequence[str], name: str) -> int:
    """Return the number of a class that is given as a name or a number.

    Args:
        name: of the sample, for error messages.
    """
    text = label.decode("utf-8", "replace").strip() if isinstance(label, bytes) else str(label)
    if text in class_names:
        return class_names.index(text)
    if text.isdecimal() and int(text) < len(class_names):
        return int(text)
    listed = ", ".join(class_names[:10])
    raise ValueError(f"{name} has the class {text!r:.50}, which is none of the {len(class_names)}: {listed}, ...")


def stream_split(shards: Any, recipe: DataRecipe, inputs: Any) -> Split:
    """Return the training split of a stream."""
    stream = Stream(shards, recipe.shuffle_buffer)
    return Split(inputs(StreamInputs(stream)), StreamLabels(stream, recipe.epoch_inputs))
