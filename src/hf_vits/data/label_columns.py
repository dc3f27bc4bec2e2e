"""Inputs of which several labels are true: columns of one label each, or one column of lists.

Labels are floats (inputs, labels): 1 where a label is true, 0 where it is not, NaN where nobody knows.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

_STATES = {
    1.0: ("1", "1.0", "true", "yes", "y", "positive"),
    0.0: ("0", "0.0", "false", "no", "n", "negative"),
    np.nan: ("", "-1", "-1.0", "nan", "none", "null", "unknown", "?"),
}
STATES = {text: state for state, texts in _STATES.items() for text in texts}


def is_multi_label(labels: np.ndarray) -> bool:
    """Return whether labels are floats (inputs, labels), of which several may be true."""
    return labels.ndim == 2 and labels.dtype.kind == "f"


def matching(patterns: str | Sequence[str], available: Iterable[str]) -> list[str]:
    """Return the names that equal a pattern or match it as a file name does, in their order."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return [name for name in available if any(name == one or fnmatchcase(name, one) for one in patterns)]


def all_matching(source: str, patterns: str | Sequence[str], available: Iterable[str]) -> list[str]:
    """Return what `matching` does; ValueError, which starts with `source`, where a pattern matches nothing."""
    names = list(available)
    missing = [one for one in ([patterns] if isinstance(patterns, str) else patterns) if not matching(one, names)]
    if missing or not patterns:
        raise ValueError(f"{source} has no column {', '.join(missing)}, only {', '.join(names)}")
    return matching(patterns, names)


def state_of(value: Any) -> float:
    """Return 1, 0 or NaN of a cell such as yes, 0 or an empty one; ValueError for others."""
    text = "" if value is None else str(value).strip().lower()
    if text not in STATES:
        raise ValueError(
            f"a label is 1, yes or true; 0, no or false; or empty, -1 or unknown where it is not known; got {value!r}"
        )
    return STATES[text]


def names_of(value: Any) -> list[str] | None:
    """Return the names in a cell: a list, JSON, or words divided by ; or | or commas; None for a missing value."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if value.startswith("["):
            value = json.loads(value)
        else:
            value = [name for part in re.split(r"[;|,]", value) if (name := part.strip())]
    return [str(name) for name in value]


def label_rows(source: str | None, rows: Mapping[str, Sequence[Any]]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of the labels, and per split the labels (rows, labels).

    Args:
        source: name of the data, for error messages.
        rows: {split: for each row {label: cell}, or a cell with the names of the labels that are true}; in a missing
            list all labels are unknown, in an empty one ("[]") none is true.

    Raises ValueError where a cell cannot be read, or a split has a label that training lacks.
    """
    if isinstance(rows["train"][0], Mapping):
        names = list(rows["train"][0])
        states = {kind: [[_read(source, kind, row, name) for name in names] for row in rows[kind]] for kind in rows}
        return names, {kind: np.asarray(values, dtype=np.float32) for kind, values in states.items()}
    listed = {kind: [names_of(value) for value in values] for kind, values in rows.items()}
    distinct = {name for names in listed["train"] for name in names or ()}
    names = sorted(distinct, key=lambda name: (False, int(name), name) if name.isdecimal() else (True, 0, name))
    return names, {kind: multi_hot(source, kind, values, names) for kind, values in listed.items()}


def _read(source: str | None, kind: str, row: Mapping[str, Any], name: str) -> float:
    try:
        return state_of(row[name])
    except KeyError as error:
        raise ValueError(f"{source}: the {kind} split has no column {name!r}, which training has") from error
    except ValueError as error:
        raise ValueError(f"{source}, {kind} split, column {name!r}: {error}") from error


def multi_hot(
    source: str | None, kind: str, listed: Sequence[Sequence[Any] | None], names: Sequence[Any]
) -> np.ndarray:
    """Return labels (rows, names) of lists of names; the row of None is NaN. ValueError for an unknown name."""
    position = {name: index for index, name in enumerate(names)}
    labels = np.zeros((len(listed), len(names)), dtype=np.float32)
    for row, found in zip(labels, listed, strict=True):
        if found is None:
            row[:] = np.nan
        elif unknown := [name for name in found if name not in position]:
            raise ValueError(f"{source}: the {kind} split has labels that training lacks: {unknown[:10]}")
        else:
            row[[position[name] for name in found]] = 1
    return labels
