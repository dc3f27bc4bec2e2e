"""WebDataset's shards: tar archives in which the files of a sample follow each other and have one name before the dot.

Archives are local files or lie at any address that fsspec opens: http(s), hf://, s3:// (with s3fs). Of local archives
only headers are read in passing; a sample is read when it is needed. Others are read from the first to the last byte;
where a connection is cut, a new one goes on from the byte that was reached.
"""

import contextlib
import io
import itertools
import json
import logging
import os
import posixpath
import re
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np

from hf_vits.recipe import DataRecipe

from .checks import Media
from .sources import required_path
from .splits import Loaded, Split, choose_splits
from .streams import class_index, stream_split

logger = logging.getLogger(__name__)

READS = ("path", "splits", "skip_unreadable", "shuffle_buffer", "epoch_inputs", "columns.label")

_BLOCK = 512  # bytes of a tar archive's unit
_ATTEMPTS = 5
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
CLASSES = "classes.txt"


class TarSample(NamedTuple):
    """The files of a sample.

    Attributes:
        shard: address of its archive.
        key: its name in the archive.
        files: {ending of a file without the first dot: content, or (offset, size) in a local archive}.
    """

    shard: str
    key: str
    files: dict[str, bytes | tuple[int, int]]


def is_local(address: str) -> bool:
    """Return whether an address is a path of this machine."""
    return "://" not in address


class RemoteFile(io.RawIOBase):
    """A file at an address that fsspec opens, read forward. Reading goes on after a connection was cut.

    Raises OSError that names the address when five attempts in a row bring nothing.
    """

    def __init__(self, address: str):
        self.address, self.position = address, 0
        self._file: Any = None
        self._last = self._ahead = b""  # what was read last, and what of it is to be read again

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Read up to a later position, or go back by the few bytes that are kept."""
        back = self.position - position
        if whence != os.SEEK_SET or back > len(self._last):
            raise io.UnsupportedOperation(f"{self.address} is read forward")
        if back > 0:
            self._last, self._ahead = self._last[:-back], self._last[-back:] + self._ahead
            self.position = position
        while self.position < position and self.read(min(position - self.position, 1 << 20)):
            pass
        return self.position

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer at the end alone."""
        parts, missing = [self._ahead[:size]], size - len(self._ahead[:size])
        self._ahead = self._ahead[size:]
        self.position += len(parts[0])
        while missing > 0 and (part := self._receive(missing)):
            parts.append(part)
            missing -= len(part)
            self.position += len(part)
        found = b"".join(parts)
        self._last = (self._last + found)[-_BLOCK:]
        return found

    def _receive(self, size: int) -> bytes:
        for attempt in range(_ATTEMPTS):
            try:
                if self._file is None:
                    self._file = self._opened()
                return self._file.read(size)
            except FileNotFoundError:
                raise
            except Exception as error:  # fsspec's file systems raise the errors of many libraries
                self.close_connection()
                if attempt == _ATTEMPTS - 1:
                    raise OSError(f"{self.address} cannot be read from byte {self.position:,} on: {error}") from None
                logger.warning("%s: connection lost at byte %d, trying again: %s", self.address, self.position, error)
                time.sleep(2 ** (attempt - 1) if attempt else 0)
        return b""

    def _opened(self) -> Any:
        source: Any = fsspec.open(self.address, "rb")
        file = source.open()
        if not self.position:
            return file
        if file.seekable():
            file.seek(self.position)
            return file
        missing = self.position
        while missing and (part := file.read(min(missing, 1 << 20))):
            missing -= len(part)
        return file

    def close_connection(self) -> None:
        """Close the connection; the next read opens another."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(Exception):
                file.close()

    def close(self) -> None:
        self.close_connection()
        super().close()


def tar_samples(address: str) -> Iterator[TarSample]:
    """Yield the samples of an archive.

    Raises OSError that names the archive where it is damaged or truncated.
    """
    with open(address, "rb") if is_local(address) else RemoteFile(address) as file:
        try:
            archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - closes with the file
            for key, members in itertools.groupby(_members(archive), key=lambda member: _key(member.name)[0]):
                yield TarSample(address, key, {_key(one.name)[1]: _content(file, one, address) for one in members})
            file.seek(archive.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise tarfile.ReadError(f"no end mark at byte {archive.offset:,}")
        except (tarfile.TarError, EOFError) as error:
            raise OSError(f"the shard {address} is damaged: {error}") from None


def _members(archive: Any) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        archive.members = []  # which otherwise keeps all of them
        name = posixpath.basename(member.name)
        if member.isfile() and not name.startswith(".") and "." in name:
            yield member


def _key(name: str) -> tuple[str, str]:
    folder, base = posixpath.split(name)
    key, _, ending = base.partition(".")
    return posixpath.join(folder, key), ending.lower()


def _content(file: Any, member: tarfile.TarInfo, address: str) -> bytes | tuple[int, int]:
    if is_local(address):
        return member.offset_data, member.size
    file.seek(member.offset_data)
    content = file.read(member.size)
    if len(content) < member.size:
        raise tarfile.ReadError(f"{member.name} is truncated")
    return content


class TarShards:
    """The shards of a split.

    Args:
        addresses: of the archives.
        media: kind of the inputs.
        label: ending of the file with the class, such as cls, or name of a value in the file that ends in json. None:
            samples have no class.
        class_names: the classes.
        skip_damaged: go on after a damaged archive with the next one, with a warning.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        media: Media,
        label: str | None,
        class_names: Sequence[str],
        skip_damaged: bool = False,
    ):
        self.addresses, self.media, self.label = list(addresses), media, label
        self.class_names, self.skip_damaged = list(class_names), skip_damaged

    def __len__(self) -> int:
        return len(self.addresses)

    def samples(self, number: int) -> Iterator[TarSample]:
        """Yield the samples of an archive that have an input."""
        try:
            yield from filter(self._ending, tar_samples(self.addresses[number]))
        except OSError as error:
            if not self.skip_damaged:
                error.add_note("Replace it, or set data.skip_unreadable: true to go on with the next shard.")
                raise
            logger.warning("skipping the rest of a shard: %s", error)

    def _ending(self, sample: TarSample) -> str | None:
        return next((ending for ending in sample.files if self.media.matches(f".{ending}")), None)

    def input_of(self, sample: TarSample) -> bytes:
        """Return the content of the input."""
        ending: Any = self._ending(sample)
        return self.read(sample, ending)

    def class_of(self, sample: TarSample) -> int:
        """Return the class of a sample; -1 where samples have none."""
        if self.label is None:
            return -1
        return class_index(self._label(sample), self.class_names, self.name_of(sample))

    def _label(self, sample: TarSample) -> Any:
        if self.label in sample.files:
            return self.read(sample, self.label)
        values = json.loads(self.read(sample, "json")) if "json" in sample.files else {}
        if self.label not in values:
            raise ValueError(
                f"{self.name_of(sample)} has no label: neither a file that ends in .{self.label} nor a value of this "
                f"name in .json, only {', '.join(sample.files)}; name it by data.columns.label"
            )
        return values[self.label]

    def read(self, sample: TarSample, ending: str) -> bytes:
        """Return the content of a file of a sample."""
        found = sample.files[ending]
        if isinstance(found, bytes):
            return found
        with open(sample.shard, "rb") as file:
            file.seek(found[0])
            return file.read(found[1])

    def name_of(self, sample: TarSample) -> str:
        """Return archive and name of a sample."""
        return f"{sample.shard}: {sample.key}"


class TarInputs:
    """Inputs of archives by number, undecoded, with their labels: all headers are read first."""

    def __init__(self, shards: TarShards):
        self.shards = shards
        self.samples = [sample for number in range(len(shards)) for sample in shards.samples(number)]
        self.labels = np.array([shards.class_of(sample) for sample in self.samples], dtype=np.int64)

    def __getitem__(self, index: int) -> bytes:
        return self.shards.input_of(self.samples[index])

    def name_of(self, index: int) -> str:
        """Return archive and name of an input."""
        return self.shards.name_of(self.samples[index])


def expanded(pattern: str) -> list[str]:
    """Return the addresses of a pattern with ranges such as {000..146} and, of local files, * and ?, in order."""
    ranges = _BRACES.search(pattern)
    if ranges:
        first, last = ranges.groups()
        numbers = (f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1))
        parts = (f"{pattern[: ranges.start()]}{number}{pattern[ranges.end() :]}" for number in numbers)
        return [address for part in parts for address in expanded(part)]
    if not any(sign in pattern for sign in "*?["):
        return [pattern]
    system, path = fsspec.core.url_to_fs(pattern)
    found = sorted(system.glob(path))
    return found if is_local(pattern) else [system.unstrip_protocol(one) for one in found]


def find_shards(recipe: DataRecipe) -> dict[str, list[str]]:
    """Return {train, validation, test: addresses of their archives}.

    data.splits has a pattern for each, relative to data.path. Without it a folder is listed: the name of an archive
    begins with its split, or its folder has that name.

    Raises ValueError or FileNotFoundError where there are none.
    """
    root = os.fspath(recipe.path or required_path(recipe, "the folder or address of tar archives")).rstrip("/")
    if recipe.splits:
        found = {kind: expanded(posixpath.join(root, pattern)) for kind, pattern in recipe.splits.items()}
        if empty := [kind for kind, addresses in found.items() if not addresses]:
            raise FileNotFoundError(f"data.splits.{empty[0]}: no archive matches {recipe.splits[empty[0]]} in {root}")
    elif root.endswith(".tar"):
        found = {"train": expanded(root)}
    else:
        parts: dict[str, list[str]] = {}
        for address in [*expanded(f"{root}/*.tar"), *expanded(f"{root}/*/*.tar")]:
            folder, name = posixpath.split(address)
            inside = posixpath.basename(folder) if folder != root and not folder.endswith(root) else ""
            word = re.match(r"[A-Za-z]*", name)
            parts.setdefault(inside or (word and word[0]) or "train", []).append(address)
        found = choose_splits(recipe, parts)
    if not found.get("train"):
        raise FileNotFoundError(f"{root} has no tar archives of a training split; name their pattern by data.splits")
    return found


def class_names_of(recipe: DataRecipe) -> list[str]:
    """Return the class names: the lines of classes.txt beside the archives, or else data.num_classes numbers."""
    root = os.fspath(recipe.path or "").rstrip("/")
    place = posixpath.join(posixpath.dirname(root) if root.endswith(".tar") else root, CLASSES)
    with contextlib.suppress(FileNotFoundError), fsspec.open(place, "rt", encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]  # pyright: ignore[reportGeneralTypeIssues]
    if recipe.num_classes is None:
        raise ValueError(f"there is no {place} with a class name in each line; write it, or set data.num_classes")
    return [str(number) for number in range(recipe.num_classes)]


def load_tars(recipe: DataRecipe, media: Media, inputs: Any) -> Loaded:
    """Load the splits of a data set in tar archives: training as a stream, the others by number.

    Args:
        inputs: function from undecoded inputs to decoded ones.
    """
    found, names = find_shards(recipe), class_names_of(recipe)
    label: Any = recipe.columns.get("label", "cls")
    shards = {kind: TarShards(one, media, label, names, recipe.skip_unreadable) for kind, one in found.items()}
    splits = {"train": stream_split(shards.pop("train"), recipe, inputs)}
    for kind, one in shards.items():
        listed = TarInputs(one)
        splits[kind] = Split(inputs(listed), listed.labels)
    return Loaded(Path(str(recipe.path)).name, names, splits)
