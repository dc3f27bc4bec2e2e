"""Files that cannot be decoded: a check of all files, whose result is kept, and errors of those that are met."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pyarrow
import pyarrow.compute
import pyarrow.parquet
from huggingface_hub import cached_assets_path
from tqdm import tqdm

logger = logging.getLogger(__name__)

_NAMED_FILES = 10
# Fewer files than this are checked by threads: processes take longer to start.
_FEW = 2000
_SCHEMA = pyarrow.schema(
    [
        ("path", pyarrow.string()),
        ("size", pyarrow.int64()),
        ("modified", pyarrow.int64()),
        ("problem", pyarrow.string()),
    ]
)


class Media(NamedTuple):
    """A kind of files.

    Attributes:
        noun: name of one input: image, video or recording.
        endings: endings of file names, each with its dot, in lower case.
        problem: function from a path to why the file cannot be decoded, or to None if it can.
    """

    noun: str
    endings: tuple[str, ...]
    problem: Callable[[Path], str | None]

    def matches(self, name: str) -> bool:
        """Return whether a file of this name is of this kind."""
        return name.lower().endswith(self.endings)


class UnreadableInput(OSError):
    """An input that cannot be decoded.

    Attributes:
        name: its file, or another name of it.
        index: its number in the inputs of its split.
        problem: why it cannot be decoded.
    """

    name: str
    index: int
    problem: str

    def of(self, name: str, index: int, problem: str) -> "UnreadableInput":
        """Return the error with its attributes. Data loaders make errors anew from a message alone."""
        self.name, self.index, self.problem = name, index, problem
        return self


@contextlib.contextmanager
def decoding(inputs, index: int) -> Iterator[None]:
    """Raise what the decoding of an input raises as `UnreadableInput`, which names the file.

    Args:
        inputs: the inputs of a split.
        index: of the input that is decoded inside.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        name = name_of(inputs, index)
        problem = " ".join(str(error).split()).removeprefix(f"cannot open the image {name}: ")
        message = (
            f"{name} cannot be read: {problem}. Remove or repair it, or set data.skip_unreadable: true to do without; "
            "`hf-vits check` finds all such files"
        )
        raise UnreadableInput(message).of(name, index, problem) from None


def name_of(inputs, index: int) -> str:
    """Return the file of an input, or its number where it comes from no file."""
    if hasattr(inputs, "name_of"):
        return inputs.name_of(index)
    return f"input {index} of the data"


def find_unreadable(paths: Sequence[Path], media: Media, root: str | os.PathLike | None = None) -> dict[Path, str]:
    """Decode files under a progress bar; return {file: why it cannot be decoded} of those that cannot.

    Args:
        root: directory or table that the files belong to. Under its name the result is kept in Hugging Face's cache
            directory; files whose size and time of change are as they were are not decoded again. None: decode all.
    """
    known = {} if root is None else _stored(root, media)
    signs = [_sign(path) for path in paths]
    problems: list[str | None] = [None] * len(paths)
    new = []
    for number, (path, sign) in enumerate(zip(paths, signs, strict=True)):
        before = known.get(os.path.abspath(path))
        if before is not None and sign is not None and before[:2] == sign:
            problems[number] = before[2]
        else:
            new.append(number)
    with _pool(len(new)) as pool:
        chunk = max(1, min(100, len(new) // 100))
        checked = pool.map(media.problem, (paths[number] for number in new), chunksize=chunk)
        progress = tqdm(checked, total=len(new), desc=f"Checking {media.noun}s", unit=media.noun, disable=not new)
        for number, problem in zip(new, progress, strict=True):
            problems[number] = problem
    if root is not None and new:
        rows = zip(paths, signs, problems, strict=True)
        known |= {os.path.abspath(path): (*sign, problem) for path, sign, problem in rows if sign is not None}
        _store(root, media, known)
    return {path: problem for path, problem in zip(paths, problems, strict=True) if problem is not None}


def find_missing(paths: Iterable[Path]) -> dict[Path, str]:
    """Return {file: that it is missing} of files that do not exist, by listing each of their folders once."""
    folders: dict[str, set[str]] = {}
    missing = {}
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = set(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else set()
        if name not in folders[folder]:
            missing[path] = "there is no such file"
    return missing


def report(unreadable: dict[Path, str], media: Media, skip: bool) -> None:
    """Log a warning that counts and names the unreadable files, the first ten; OSError that does, unless `skip`."""
    listed = "\n".join(f"  {path}: {problem}" for path, problem in list(unreadable.items())[:_NAMED_FILES])
    more = f"\n  and {len(unreadable) - _NAMED_FILES} more" if len(unreadable) > _NAMED_FILES else ""
    found = f"{len(unreadable)} {media.noun} file(s) cannot be read:\n{listed}{more}"
    if unreadable and not skip:
        raise OSError(f"{found}\nRemove or repair them, or set data.skip_unreadable: true to train without them.")
    if unreadable:
        logger.warning("skipping: %s", found)


def known_unreadable(root: str | os.PathLike, media: Media) -> dict[str, str]:
    """Return {absolute path: why} of what an earlier `find_unreadable` found and that did not change since."""
    found = _stored(root, media, only_problems=True)
    return {path: str(row[2]) for path, row in found.items() if _sign(path) == row[:2]}


def _pool(count: int) -> Executor:
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(workers) if count < _FEW or workers == 1 else ProcessPoolExecutor(workers)


def _sign(path: str | Path) -> tuple[int, int] | None:
    """Return size and time of change of a file, by which it is known to be the same; None if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _file(root: str | os.PathLike, media: Media) -> Path:
    place = hashlib.sha256(os.path.realpath(root).encode()).hexdigest()[:24]
    return cached_assets_path("hf_vits", "data", "checks") / f"{media.noun}s-{place}.parquet"


def _stored(
    root: str | os.PathLike, media: Media, only_problems: bool = False
) -> dict[str, tuple[int, int, str | None]]:
    """Return {file: (size, time of change, problem)} of earlier checks; a damaged result counts as none."""
    file = _file(root, media)
    if not file.is_file():
        return {}
    try:
        filters = pyarrow.compute.field("problem").is_valid() if only_problems else None
        columns = pyarrow.parquet.read_table(file, schema=_SCHEMA, filters=filters).to_pydict()
    except (pyarrow.ArrowException, OSError):
        return {}
    rows = zip(columns["size"], columns["modified"], columns["problem"], strict=True)
    return dict(zip(columns["path"], rows, strict=True))


def _store(root: str | os.PathLike, media: Media, rows: dict[str, tuple[int, int, str | None]]) -> None:
    sizes, times, problems = zip(*rows.values(), strict=True) if rows else ((), (), ())
    columns = {"path": list(rows), "size": sizes, "modified": times, "problem": problems}
    file = _file(root, media)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=_SCHEMA), partial)
    partial.replace(file)
