"""Targets of a regression: columns of one number each, or one column of lists of numbers.

Targets are floats (inputs, targets), in the units of the data. A cell without a finite number is an error.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Cells = Mapping[str, Any]


def numbers_of(cells: Cells) -> list[float]:
    """Return the numbers in the cells {column: cell} of a row; a cell is a number, its text, or a list of numbers.

    Raises ValueError, which names the column, for an empty cell, a text, and what is not finite.
    """
    numbers = []
    for name, cell in cells.items():
        try:
            value = json.loads(cell) if isinstance(cell, str) and cell.lstrip().startswith("[") else cell
            numbers += [_number(item) for item in (value if isinstance(value, list | tuple) else [value])]
        except ValueError as error:
            raise ValueError(f"column {name!r}: expected a finite number, got {cell!r:.100}") from error
    return numbers


def _number(value: Any) -> float:
    if value is None or isinstance(value, bool):
        raise ValueError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def target_names(cells: Cells) -> list[str]:
    """Return the names of the targets: the column's name, and of a column of lists column_0, column_1 and so on."""
    names = []
    for name, cell in cells.items():
        value = json.loads(cell) if isinstance(cell, str) and cell.lstrip().startswith("[") else cell
        is_list = isinstance(value, list | tuple)
        names += [f"{name}_{index}" for index in range(len(value))] if is_list else [name]
    return names


def named_numbers(config: Any, numbers: Iterable[float]) -> dict[str, float]:
    """Return {target: number} of a model's outputs (targets,)."""
    return {config.id2label[index]: float(number) for index, number in enumerate(numbers)}


def target_rows(source: str | None, rows: Mapping[str, Sequence[Cells]]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of the targets, and per split the targets (rows, targets), float32.

    Args:
        source: name of the data, for error messages.
        rows: {split: for each row {column: cell}}.

    Raises ValueError where a cell has no number, or rows differ in their numbers of targets.
    """
    found: dict[str, np.ndarray] = {}
    names = None
    for kind in sorted(rows, key="train".__ne__):
        values = []
        for number, cells in enumerate(rows[kind], start=1):
            try:
                values.append(numbers_of(cells))
                names = names or target_names(cells)
                if len(values[-1]) != len(names):
                    raise ValueError(f"expected the {len(names)} targets of the first row, got {len(values[-1])}")
            except ValueError as error:
                raise ValueError(f"{source}, {kind} split, row {number}: {error}") from error
        found[kind] = np.asarray(values, dtype=np.float32)
    return names or [], found
