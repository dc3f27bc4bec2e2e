"""Inputs in files, and lists of so many files that a `Path` for each would fill the memory."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .checks import Media


class FileList(Sequence):
    """Paths of files, of which only the names are kept, in one string: about 30 bytes for each of a million files.

    Forked worker processes share it: reading changes no reference count, as it would in a list of paths.

    Args:
        folders: pairs of a directory and the names of its files.
    """

    def __init__(self, folders: Iterable[tuple[str, Sequence[str]]]):
        kept = [(folder, [os.fsencode(name) for name in names]) for folder, names in folders]
        self.folders = [folder for folder, _ in kept]
        self.firsts = np.cumsum([0, *(len(names) for _, names in kept)])
        sizes = np.fromiter((len(name) for _, names in kept for name in names), np.int64, self.firsts[-1])
        self.ends = np.cumsum(sizes)
        self.names = b"".join(name for _, names in kept for name in names)

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        index = int(index)
        index += len(self) if index < 0 else 0
        if not 0 <= index < len(self):
            raise IndexError(f"file {index} of {len(self)}")
        folder = int(np.searchsorted(self.firsts, index, "right")) - 1
        start = int(self.ends[index - 1]) if index else 0
        return Path(self.folders[folder], os.fsdecode(self.names[start : int(self.ends[index])]))


@dataclass(frozen=True)
class FileInputs:
    """Inputs in files, each of which is given as its path.

    Attributes:
        media: kind of the files.
    """

    paths: Sequence[Path]
    media: ClassVar[Media]

    def __getitem__(self, index: int) -> Any:
        return self.paths[index]

    def name_of(self, index: int) -> str:
        """Return the path of an input."""
        return str(self.paths[index])
