"""Folders that one process uses: locked output directories, and temporary folders that do not outlive a kill.

The locks are the operating system's, which ends them with the process, however it ends.
"""

import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

LOCK, OWNER = ".lock", ".owner"
# Seconds in which the workers of a killed process end, which may hold its lock.
AFTERMATH = 15
_RANDOM = "[a-z0-9_]{8}"  # what tempfile adds to a prefix


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Use a directory alone; it is created if it does not exist.

    Raises OSError, which names the other process, if another uses it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(directory / LOCK), directory / OWNER
    try:
        lock.acquire(timeout=AFTERMATH if _is_gone(owner) else 0)
    except Timeout:
        process, host = _read(owner) or ("?", "?")
        raise OSError(
            f"{directory} is in use by process {process} on {host}: wait until it ends, or choose another folder"
        ) from None
    try:
        owner.write_text(f"{os.getpid()} {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        _release(lock)


@contextmanager
def temporary_folder(parent: Path | None = None, prefix: str = "hf_vits-") -> Iterator[Path]:
    """Yield a new empty folder, which is removed at the end; also remove those that killed processes left.

    Args:
        parent: existing folder that holds it, by default the system's for temporary files.
        prefix: start of its name. Folders that killed processes left are known by it.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    for _ in abandoned(parent, prefix):
        pass
    with contextlib.ExitStack() as stack:
        while True:
            made = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
            if (lock := _lock_of(made)) is not None:
                break  # otherwise another process has just taken it for one that was left
        stack.callback(_release, lock)
        stack.callback(shutil.rmtree, made, ignore_errors=True)
        content = made / "content"
        content.mkdir()
        yield content


def abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield the content of each temporary folder that a killed process left, and remove it afterwards."""
    pattern = re.compile(re.escape(prefix) + _RANDOM)
    for folder in parent.iterdir():
        if not pattern.fullmatch(folder.name) or not _is_ours(folder):
            continue
        if (lock := _lock_of(folder)) is None:
            continue
        try:
            yield folder / "content"
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            _release(lock)


def check_free(folder: Path, overwrite: bool) -> None:
    """Raise FileExistsError if `folder` must not be written."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(
            f"{folder} exists already and is not an empty folder: choose another, or pass --overwrite"
        )
    if not (folder / "config.json").is_file():
        raise FileExistsError(f"{folder} holds no saved model (no config.json), so --overwrite does not replace it")


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield a new folder to fill, which replaces `folder` when the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}-"
    for left in abandoned(folder.parent, prefix):
        if (left / "old").is_dir() and not folder.exists():  # killed between the two lines that rename
            (left / "old").rename(folder)
    with temporary_folder(folder.parent, prefix) as temporary:
        new, old = temporary / "new", temporary / "old"
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def _is_ours(folder: Path) -> bool:
    """Return whether `temporary_folder` made a folder; an empty one it made just before a kill, or makes now."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:  # not a folder, someone else's, or removed meanwhile
        return False
    return names <= {LOCK, "content"}


def _lock_of(folder: Path) -> FileLock | None:
    """Lock a temporary folder; None if another process has it."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return None
    if not folder.is_dir():
        lock.release()
        return None
    return lock


def _release(lock: FileLock) -> None:
    with contextlib.suppress(OSError):  # Windows removes no open file, and filelock removes it there itself
        os.unlink(lock.lock_file)
    lock.release()


def _read(owner: Path) -> tuple[str, str] | None:
    """Return (process id, host) of the process that locked a directory, if it is known."""
    try:
        process, host = owner.read_text(encoding="utf-8").split(" ", 1)
    except (OSError, ValueError):
        return None
    return process, host


def _is_gone(owner: Path) -> bool:
    """Return whether the process that locked a directory ended without releasing it."""
    known = _read(owner)
    return known is not None and known[1] == socket.gethostname() and not psutil.pid_exists(int(known[0]))
