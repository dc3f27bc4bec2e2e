"""Local paths, which must not appear in what is published, and secrets, which must not appear in messages."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Keys of a saved configuration that name where it was loaded from.
ORIGINS = ("_name_or_path", "_commit_hash", "name_or_path")
# Keys of names and tokens, which may look like paths.
NAMES = ("id2label", "label2id", "added_tokens_decoder")
# A web address with a query, which may be a signature.
QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")


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


def without_secrets(text: str, tokens: Iterable[str | None]) -> str:
    """Return a message without the queries of web addresses, which sign some of them, and without these tokens."""
    text = QUERY.sub(r"\1", text)
    for token in filter(None, tokens):
        text = text.replace(token, "(token)")
    return text


def remove_paths(file: Path) -> None:
    """Remove local paths at every depth of a saved JSON file: settings, and keys that name where it was loaded from.

    Only configurations have settings: in other files, such as vocabularies, a text that looks like a path is kept.
    """
    data = json.loads(file.read_text(encoding="utf-8"))
    public = _without_paths(data, settings=file.name.endswith("config.json"))
    if public != data:
        file.write_text(json.dumps(public, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _without_paths(data: Any, settings: bool) -> Any:
    if isinstance(data, list):
        return [_without_paths(item, settings) for item in data]
    if not isinstance(data, dict):
        return data
    public = {}
    for key, value in data.items():
        if isinstance(value, str) and key in ORIGINS:
            continue
        are_settings = settings and key not in NAMES and not key.endswith(("_token", "_tokens"))
        if are_settings and _is_path(value):
            continue
        public[key] = _without_paths(value, are_settings)
    return public


def _is_path(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(item, str) and is_local(item) for item in values)
