"""Reading and writing the files of saved models and runs, with errors that name the file."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch

# How the libraries say that a disk is full, beside an OSError: safetensors, and PyTorch, which does not say why.
_FULL = ("No space left", "Disk quota", "File too large", "file write failed", "failed writing", "unexpected pos")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; ValueError that names the file for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of UTF-8 or JSON
        raise ValueError(f"{path} is damaged, it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: expected a JSON object, got {type(content).__name__}")
    return content


@contextmanager
def reading(source: str | os.PathLike, *names: str, expected: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raise what damaged files make libraries raise, which is nearly every type, as an error that names the file.

    Args:
        source: folder or Hub repository that is read.
        names: files in it that are read; none: all that a saved model has.
        expected: further types of errors that pass as they are where no file is damaged.

    Raises:
        OSError: a file is damaged.
        ValueError, TypeError: what the code inside raises, with `source` added unless the message has it.
    """
    try:
        yield
    except (MemoryError, ImportError, FloatingPointError):
        raise
    except Exception as error:
        source, message = os.fspath(source), str(error)
        is_named = source in message or (isinstance(error, OSError) and not os.path.isdir(source))
        if is_named and isinstance(error, OSError | ValueError | TypeError):
            raise
        problem = damage(Path(source), names)
        if problem is None and isinstance(error, expected):
            raise
        if problem is None and type(error) in (ValueError, TypeError):
            raise type(error)(f"{source}: {message}") from error
        where = f" ({', '.join(names)})" if names else ""
        reason = f"{type(error).__name__}: {' '.join(message.split())[:500]}"
        raise OSError(problem or f"{source}{where} cannot be read, a file may be damaged: {reason}") from error


def damage(folder: Path, names: tuple[str, ...] = ()) -> str | None:
    """Return what is wrong with the first damaged file of a folder, None if there is none that can be named."""
    for path in sorted(path for path in folder.glob("*") if path.is_file() and (not names or path.name in names)):
        check = _CHECKS.get(path.suffix)
        try:
            if check is not None:
                check(path)
        except Exception as error:
            message = " ".join(str(error).split()) or type(error).__name__
            return message if str(path) in message else f"{path} is damaged: {message[:300]}"
    return None


def _check_weights(path: Path) -> None:
    with safetensors.safe_open(path, framework="pt"):
        pass


def _check_pickle(path: Path) -> None:
    with torch.serialization.safe_globals([]):
        torch.load(path, map_location="meta", weights_only=True)


_CHECKS: dict[str, Callable[[Path], Any]] = {".json": read_json, ".safetensors": _check_weights, ".pt": _check_pickle}


@contextmanager
def writing(target: str | os.PathLike) -> Iterator[None]:
    """Raise the libraries' errors of a full disk as OSError that names `target`."""
    try:
        yield
    except Exception as error:
        codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if getattr(error, "errno", None) in codes or any(part in str(error) for part in _FULL):
            raise OSError(
                errno.ENOSPC, f"no space left, or a quota is used up, while {os.fspath(target)} is written: {error}"
            ) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            partial.write_text(text, encoding="utf-8")
        except OSError:
            partial.unlink(missing_ok=True)
            raise
    partial.replace(path)
