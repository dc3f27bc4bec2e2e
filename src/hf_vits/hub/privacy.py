"""Local paths, which must not appear in what is published."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def is_local(name: str | os.PathLike) -> bool:
    """Return whether `name` is a path on this machine."""
    if isinstance(name, os.PathLike) or os.path.isabs(name) or name.startswith(("~", "./", "../", "file:")):
        return True
    return "/" in name and os.path.exists(name)


def contains_path(value: Any) -> bool:
    """Return whether `value`, or anything inside the mapping or collection that it is, is a local path."""
    if isinstance(value, Mapping):
        return any(contains_path(item) for item in value.values())
    if isinstance(value, list | tuple | set):
        return any(contains_path(item) for item in value)
    return isinstance(value, str | os.PathLike) and is_local(value)


def public_name(name: str | os.PathLike) -> str:
    """Return `name`, or only the last part of a local path."""
    return Path(name).name if is_local(name) else str(name)
