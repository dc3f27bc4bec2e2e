"""Samples whose input cannot be decoded: an error that says what to do, or another sample in their place."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from hf_vits.data.checks import UnreadableInput
from hf_vits.recipe import Recipe

from .batches import SampleKey
from .randomness import RandomStream, seed_at

logger = logging.getLogger(__name__)

UNREADABLE = "unreadable.jsonl"
_MOST_IN_A_ROW = 1000


class ReadableSamples(Dataset):
    """Data set in which samples with an unreadable input are replaced, if the recipe asks for it.

    The input in its place is drawn by a seed that depends on the run's seed and the place in the epoch. So it is the
    same after a resume and on any number of processes and workers. In a stream it is the next one of the batch.

    Args:
        dataset: samples of the inputs of a split, indexed by `SampleKey` or by number.
        recipe: data.skip_unreadable says whether to replace; without it an unreadable input is an error. Those that
            are replaced are logged and listed in `unreadable.jsonl` in the output directory, each once.
    """

    def __init__(self, dataset: Any, recipe: Recipe):
        self.dataset, self.skip = dataset, recipe.data.skip_unreadable
        self.record = Path(recipe.output.directory) / UNREADABLE
        self.reported: set[str] = set()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey | int) -> Any:
        return self._fetch([key])[0]

    def __getitems__(self, keys: Sequence[SampleKey | int]) -> list[Any]:
        if hasattr(self.dataset, "__getitems__"):
            return self._fetch(keys)
        return [self[key] for key in keys]

    def _fetch(self, keys: Sequence[SampleKey | int]) -> list[Any]:
        keys, draws = list(keys), [0] * len(keys)
        for _ in range(_MOST_IN_A_ROW):
            try:
                if hasattr(self.dataset, "__getitems__"):
                    return self.dataset.__getitems__(keys)
                return [self.dataset[key] for key in keys]
            except UnreadableInput as error:
                if not self.skip:
                    raise
                self._report(error)
                for place, key in enumerate(keys):
                    if _number(key) == error.index:
                        keys[place] = self._other(key, draws[place])
                        draws[place] += 1
        raise OSError(f"{_MOST_IN_A_ROW} inputs in a row cannot be read, such as {min(self.reported)}")

    def _other(self, key: SampleKey | int, draw: int) -> SampleKey | int:
        """Return the key of another input; `draw` is the number of those that were drawn for this place before."""
        # Repeats of an input have their seed in common, and so the input in its place.
        seed = key.shared_seed if isinstance(key, SampleKey) else int(key)
        drawn = seed_at(seed, RandomStream.REPLACEMENT, draw)
        index = self.dataset.split.substitute(_number(key), drawn)
        return key._replace(index=index) if isinstance(key, SampleKey) else index

    def _report(self, error: UnreadableInput) -> None:
        if error.name in self.reported:
            return
        self.reported.add(error.name)
        logger.warning("skipping %s: %s", error.name, error.problem)
        if self.record.parent.is_dir():
            line = json.dumps({"file": error.name, "problem": error.problem}) + "\n"
            # One write to the end of the file, so that lines of several processes do not mix.
            with self.record.open("ab", buffering=0) as file:
                file.write(line.encode())


def _number(key: SampleKey | int) -> int:
    return key.index if isinstance(key, SampleKey) else int(key)


def unreadable_files(record: Path) -> dict[str, str]:
    """Return {file: problem} of the inputs that were recorded as unreadable."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    return {row["file"]: row["problem"] for row in map(json.loads, lines)}
