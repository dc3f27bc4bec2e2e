"""Tables of files in CSV or JSON Lines: one row per file, with its class or text."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_vits.recipe import DataRecipe

from .checks import Media, find_missing, report
from .label_columns import all_matching, label_rows, matching
from .sources import required_path
from .splits import LabelledFiles, choose_splits
from .targets import numbers_of, target_rows

FILE_COLUMNS = ("path", "file", "file_name", "filename", "wav")
LABEL_COLUMNS = ("label", "class", "category", "action", "intent", "keyword", "cls")
# Settings by which sources with classes or numbers choose them.
TARGET_KEYS = ("columns.label", "columns.labels", "columns.targets")
TEXT_COLUMNS = ("text", "sentence", "transcript", "transcription")

Row = dict[str, str]

TABLE = "a table, or a directory of tables named as splits"


def table_name(recipe: DataRecipe) -> str:
    """Return the name of the data: the table's file name without its ending, or the directory's name."""
    return required_path(recipe, TABLE).stem


def load_class_table(recipe: DataRecipe, media: Media, file_column: str) -> LabelledFiles:
    """Return the class names of the training rows, and per split the files with their labels; see `load_table`.

    Where data.columns names `labels`, several of which may be true, labels are floats (files, labels), see
    `label_columns`; where it names `targets`, they are numbers (files, targets), see `targets`.
    Raises ValueError also where another split has a class that training lacks.
    """
    if "labels" in recipe.columns:
        splits = load_table(recipe, media, file_column, "labels", ())
        class_names, labels = label_rows(recipe.path, {kind: rows for kind, (_, rows) in splits.items()})
        return class_names, {kind: (files, labels[kind]) for kind, (files, _) in splits.items()}
    if "targets" in recipe.columns:
        splits = load_table(recipe, media, file_column, "targets", ())
        names, targets = target_rows(recipe.path, {kind: rows for kind, (_, rows) in splits.items()})
        return names, {kind: (files, targets[kind]) for kind, (files, _) in splits.items()}
    splits = load_table(recipe, media, file_column, "label", LABEL_COLUMNS)
    if isinstance(recipe.columns.get("label"), list):
        return combine_columns(recipe.columns["label"], splits)
    class_names = sorted_classes(splits["train"][1])
    return class_names, {
        kind: (files, label_indices(recipe.path, kind, names, class_names)) for kind, (files, names) in splits.items()
    }


def combine_columns(
    columns: Sequence[str], splits: dict[str, tuple[list[Path], list[tuple[str, ...]]]]
) -> LabelledFiles:
    """Return what `load_class_table` does for rows with several classes; labels are described in `label_groups`.

    The classes are collected from all splits: of many combinations, some have a class that no training row has.

    Args:
        columns: the columns of classes.
        splits: {split: (files, for each file its class in every column)}.
    """
    rows = [row for _, targets in splits.values() for row in targets]
    class_names = {column: sorted_classes(row[number] for row in rows) for number, column in enumerate(columns)}
    classes = [(column, name) for column, names in class_names.items() for name in names]
    position = {pair: number for number, pair in enumerate(classes)}
    return class_names, {
        kind: (files, np.array([[position[pair] for pair in zip(columns, row, strict=True)] for row in targets]))
        for kind, (files, targets) in splits.items()
    }


def load_table(
    recipe: DataRecipe, media: Media, file_column: str, target: str, usual: Iterable[str]
) -> dict[str, tuple[list[Path], list]]:
    """Return per split the files, and for each file its value in one column, or a tuple of values in several.

    data.path is one table, divided by its column `split` if it has one, or a directory of tables named as splits.
    File names are relative to the table's directory.

    Args:
        file_column: key of data.columns for the column of file names, and one of that column's usual names.
        target: key of data.columns for the column of classes or texts, and one of that column's usual names.
        usual: further usual names of that column.

    Raises:
        FileNotFoundError: there is no such table, or no table in the directory.
        ValueError: a row is wrong, or a column or split is missing.
        OSError: files are missing, unless data.skip_unreadable.
    """
    loaded = load_rows(recipe, media, file_column)
    return {kind: (files, column(recipe, rows, target, usual)) for kind, (files, rows) in loaded.items()}


def load_rows(recipe: DataRecipe, media: Media, file_column: str) -> dict[str, tuple[list[Path], list[Row]]]:
    """Return per split the files, and for each file its row; see `load_table`."""
    folder, tables = _tables(recipe)
    files = {
        kind: [folder / name for name in column(recipe, rows, file_column, FILE_COLUMNS)]
        for kind, rows in tables.items()
    }
    report(find_missing(path for listed in files.values() for path in listed), media, recipe.skip_unreadable)
    return {kind: (files[kind], rows) for kind, rows in tables.items()}


def _tables(recipe: DataRecipe) -> tuple[Path, dict[str, list[Row]]]:
    """Return the directory that file names are relative to, and the rows of each split."""
    root = required_path(recipe, TABLE)
    if not root.is_dir():
        rows = read_columns(recipe, root)
        if "split" in recipe.columns:
            column_name(recipe, rows[0], "split", ())  # a column that is named must be there
        parts = split_rows(rows, recipe.columns.get("split", "split")) or {"train": rows}
        chosen = choose_splits(recipe, parts)
        if not chosen:
            raise ValueError(f"{root} has no training split, only {sorted(parts)}; name one by data.splits.train")
        return root.parent, chosen
    tables = {file.stem: file for file in sorted(root.glob(f"*.{recipe.source}"))}
    chosen = choose_splits(recipe, tables)
    if not chosen:
        raise FileNotFoundError(f"{root} has no train.{recipe.source}; data.path is {TABLE}")
    return root, {kind: read_columns(recipe, file) for kind, file in chosen.items()}


def read_columns(recipe: DataRecipe, path: Path) -> list[Row]:
    """Return the rows of a table as `read_table` does, with the columns of several labels or numbers of a recipe."""
    numbers = recipe.columns.get("targets", ())
    return read_table(path, recipe.columns.get("labels", numbers), numbers)


def split_rows(rows: Sequence[Row], name: str) -> dict[str, list[Row]]:
    """Return {value in the column `name`: its rows}; empty without that column."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        if name in row:
            parts.setdefault(row[name], []).append(row)
    return parts


def read_table(path: Path, optional: str | Sequence[str] = (), numbers: str | Sequence[str] = ()) -> list[Row]:
    """Return the rows of a CSV file with a header, or of a JSON Lines file; all have the columns of the first.

    Args:
        optional: names or patterns of columns in which JSON Lines may have null, which becomes an empty text, or a
            list, which stays JSON.
        numbers: names or patterns of columns in which every row must have a finite number, or a list of them.

    Raises FileNotFoundError where there is no such file, ValueError where it is empty or a row, which is named, wrong.
    """
    rows: list[Row] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = map(json.loads, filter(str.strip, file)) if path.suffix == ".jsonl" else csv.DictReader(file)
        try:
            for row in lines:
                checked = _checked(_as_texts(row, optional), (rows or [row])[0])
                numbers_of({name: checked[name] for name in matching(numbers, checked)})
                rows.append(checked)
        except (ValueError, csv.Error, RecursionError) as error:
            raise ValueError(f"{path}, row {len(rows) + 1}: {error}") from error
    if not rows:
        raise ValueError(f"{path} has no rows below its header")
    return rows


def _as_texts(row: Any, optional: str | Sequence[str]) -> Any:
    """Return a row of JSON Lines with texts in place of null and lists in the optional columns."""
    if not optional or not isinstance(row, dict) or None in row:
        return row
    texts = {name: "" if row[name] is None else row[name] for name in matching(optional, row)}
    return row | {name: json.dumps(value) if isinstance(value, list) else value for name, value in texts.items()}


def _checked(row: Mapping, first: Mapping) -> Row:
    # csv.DictReader puts surplus values under None, and None where values are missing.
    if not isinstance(row, dict):
        raise ValueError(f"expected an object of a value for each column, got {row!r:.100}")
    if row.keys() != first.keys() or None in row or None in row.values():
        raise ValueError(f"expected a value for each of {', '.join(map(str, first))}, got {row}")
    return {key: str(value) for key, value in row.items()}


def column(recipe: DataRecipe, rows: Sequence[Row], key: str, usual: Iterable[str]) -> list:
    """Return the values in the column that `column_name` chooses; tuples where data.columns names several.

    For the key `labels` they are {column: value}, unless data.columns names a single column by its own name; for
    `targets` always.
    """
    named = recipe.columns.get(key)
    is_one_of_labels = isinstance(named, str) and named in rows[0]
    if key == "targets" or (key == "labels" and not is_one_of_labels):
        found = all_matching(f"data.columns.{key}: {recipe.path}", named or (), rows[0])
        return [{name: row[name] for name in found} for row in rows]
    if isinstance(named, list):
        found = [_find_column(recipe, rows[0], key, [name]) for name in named]
        return [tuple(row[name] for name in found) for row in rows]
    name = column_name(recipe, rows[0], key, usual)
    return [row[name] for row in rows]


def column_name(recipe: DataRecipe, available: Iterable[str], key: str, usual: Iterable[str]) -> str:
    """Return the column that data.columns names under `key`, or else the first of a usual name.

    Raises ValueError where there is no such column, or data.columns names several.
    """
    named = recipe.columns.get(key)
    if isinstance(named, list):
        raise ValueError(f"data.columns.{key}: the source {recipe.source} reads one column, got {named}")
    return _find_column(recipe, available, key, [key, *usual] if named is None else [named])


def _find_column(recipe: DataRecipe, available: Iterable[str], key: str, names: Sequence[str]) -> str:
    for name in names:
        if name in available:
            return name
    raise ValueError(
        f"{recipe.path or 'data.data_files'} has no column {' or '.join(dict.fromkeys(names))}, only "
        f"{', '.join(available)}; name it by data.columns.{key}"
    )


def label_indices(source: str, kind: str, names: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """Return the indices (rows,) of class names, int64; ValueError for a class that training lacks.

    Args:
        source, kind: names of the data and the split, for the error message.
        names: class of each row.
    """
    if unknown := sorted(set(names) - set(class_names)):
        raise ValueError(f"{source}: the {kind} split has classes that training lacks: {', '.join(unknown[:10])}")
    index = {name: number for number, name in enumerate(class_names)}
    return np.asarray([index[name] for name in names], dtype=np.int64)


def sorted_classes(names: Iterable[str]) -> list[str]:
    """Return the distinct names: numbers in numerical order, then words in alphabetical order."""
    return sorted(set(names), key=lambda name: (False, int(name), name) if name.isdecimal() else (True, 0, name))
