"""Columns of `datasets` datasets: which hold the inputs, which their class labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
from datasets.exceptions import DatasetGenerationError

from hf_vits.recipe import DataRecipe

from .label_columns import label_rows, matching, multi_hot
from .sources import required_path
from .splits import ColumnInputs, Loaded, Split, choose_splits
from .tables import LABEL_COLUMNS, column_name, label_indices, sorted_classes

# {ending of a file: module of `datasets` that reads it}
_FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}


def load_dataset_splits(recipe: DataRecipe) -> dict[str, datasets.Dataset]:
    """Load the dataset data.path and return the splits of it that the recipe uses, the training split among them.

    It is a name on the Hub; a directory that `save_to_disk` wrote; another directory, of files that `datasets`
    recognises, such as parquet, tar archives of webdataset, or images with metadata.csv; or one such file.

    Raises:
        OSError: the files cannot be read, with the cause.
        ValueError: there is no training split.
    """
    path = required_path(recipe, "the name of a dataset on the Hub, a local directory, or a file")
    available = _available(recipe, path)
    loaded = choose_splits(recipe, available)
    if not loaded:
        raise ValueError(
            f"{recipe.path} has no training split, only {sorted(available)}; name one by data.splits.train"
        )
    return loaded


def _available(recipe: DataRecipe, path: Path) -> Any:
    """Return {split: dataset} of data.path."""
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            stored = datasets.load_from_disk(str(path))
            return stored if isinstance(stored, datasets.DatasetDict) else {"train": stored}
        if path.is_file():
            if path.suffix.lower() not in _FORMATS:
                raise ValueError(f"data.path {path}: a file of a dataset ends in {', '.join(_FORMATS)}")
            return datasets.load_dataset(_FORMATS[path.suffix.lower()], data_files={"train": str(path)})
        return datasets.load_dataset(recipe.path, recipe.config)
    except (DatasetGenerationError, pyarrow.ArrowInvalid) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise OSError(f"{recipe.path} cannot be loaded: {type(cause).__name__}: {cause}") from error


def load_dataset_classes(recipe: DataRecipe, key: str, feature: type) -> Loaded:
    """Load a dataset with class labels.

    Args:
        key: key of data.columns for the column of inputs.
        feature: type of that column, such as datasets.Image.
    """
    loaded = load_dataset_splits(recipe)
    inputs = {
        kind: ColumnInputs(dataset, input_column(recipe, dataset, key, feature)) for kind, dataset in loaded.items()
    }
    several = _several(recipe, loaded["train"])
    class_names, labels = _multi_labels(recipe, loaded, several) if several else _labels(recipe, loaded)
    return Loaded(recipe.path, class_names, {kind: Split(inputs[kind], labels[kind]) for kind in loaded})


def input_column(recipe: DataRecipe, dataset: datasets.Dataset, key: str, feature: type) -> str:
    """Return the column that data.columns names under `key`, or else the first one of type `feature`.

    Raises ValueError where there is no such column, or the one that is named has another type.
    """
    named: Any = recipe.columns.get(key)  # one name: only labels may have several
    if named is not None and named not in dataset.features:
        raise ValueError(f"data.columns.{key}: {recipe.path} has no column {named!r}, only {_listed(dataset)}")
    for name in [named] if named is not None else dataset.features:
        if isinstance(dataset.features[name], feature):
            return name
    if named is not None:
        raise ValueError(f"data.columns.{key}: column {named!r} of {recipe.path} is not of type {feature.__name__}")
    raise ValueError(f"{recipe.path} has no column of type {feature.__name__}, only {_listed(dataset)}")


def _several(recipe: DataRecipe, dataset: datasets.Dataset) -> list[str]:
    """Return the columns of labels of which several may be true; empty where each input has one class.

    They are those that data.columns.labels names, or else the first column of lists of class labels, if there is no
    column of single ones.
    """
    if "labels" in recipe.columns:
        found = matching(recipe.columns["labels"], dataset.features)
        if not found:
            raise ValueError(
                f"data.columns.labels: {recipe.path} has no column {recipe.columns['labels']}, only {_listed(dataset)}"
            )
        return found
    kinds = dataset.features.items()
    if "label" in recipe.columns or any(isinstance(kind, datasets.ClassLabel) for _, kind in kinds):
        return []
    return [name for name, kind in kinds if isinstance(getattr(kind, "feature", None), datasets.ClassLabel)][:1]


def _multi_labels(
    recipe: DataRecipe, loaded: Mapping[str, datasets.Dataset], columns: list[str]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of the labels, and per split the labels (rows, labels), see `label_columns`."""
    for kind, dataset in loaded.items():
        if missing := [name for name in columns if name not in dataset.features]:
            raise ValueError(f"{recipe.path}: the {kind} split has no column {', '.join(missing)}")
    values = {kind: {name: list(dataset[name]) for name in columns} for kind, dataset in loaded.items()}
    inner = getattr(loaded["train"].features[columns[0]], "feature", None)
    if len(columns) > 1 or inner is None:
        rows = {
            kind: [dict(zip(part, row, strict=True)) for row in zip(*part.values(), strict=True)]
            for kind, part in values.items()
        }
        return label_rows(recipe.path, rows)
    lists = {kind: part[columns[0]] for kind, part in values.items()}
    if not isinstance(inner, datasets.ClassLabel):
        return label_rows(recipe.path, lists)
    names = inner.names
    if any(dataset.features[columns[0]].feature.names != names for dataset in loaded.values()):
        raise ValueError(f"the splits of dataset {recipe.path} have different labels in column {columns[0]!r}")
    return names, {kind: multi_hot(recipe.path, kind, rows, range(len(names))) for kind, rows in lists.items()}


def _listed(dataset: datasets.Dataset) -> str:
    return ", ".join(f"{name} ({getattr(kind, 'dtype', kind)})" for name, kind in dataset.features.items())


def _labels(recipe: DataRecipe, loaded: Mapping[str, datasets.Dataset]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the class names, and per split the labels (rows,): -1 or another value outside marks a row without."""
    columns = {kind: _label_column(recipe, dataset) for kind, dataset in loaded.items()}
    kinds = {kind: dataset.features[columns[kind]] for kind, dataset in loaded.items()}
    if all(isinstance(kind, datasets.ClassLabel) for kind in kinds.values()):
        names = {kind: feature.names for kind, feature in kinds.items()}
        if any(other != names["train"] for other in names.values()):
            raise ValueError(f"the splits of dataset {recipe.path} have different classes: {names}")
        values = {kind: dataset.with_format("numpy")[columns[kind]][:] for kind, dataset in loaded.items()}
        return names["train"], {kind: np.asarray(found, dtype=np.int64) for kind, found in values.items()}
    values = {kind: _names(recipe, dataset, columns[kind]) for kind, dataset in loaded.items()}
    class_names = sorted_classes(values["train"])
    return class_names, {kind: label_indices(recipe.path, kind, found, class_names) for kind, found in values.items()}


def _label_column(recipe: DataRecipe, dataset: datasets.Dataset) -> str:
    """Return the column that data.columns.label names, or else the first of class labels, or one of a usual name."""
    if "label" not in recipe.columns:
        for name, feature in dataset.features.items():
            if isinstance(feature, datasets.ClassLabel):
                return name
    return column_name(recipe, dataset.features, "label", LABEL_COLUMNS)


def _names(recipe: DataRecipe, dataset: datasets.Dataset, column: str) -> list[str]:
    """Return the class name of each row: of a class label its name, else the value, a word or a whole number."""
    feature, values = dataset.features[column], list(dataset[column])
    if isinstance(feature, datasets.ClassLabel):
        return [str(feature.int2str(value)) for value in values]
    kind = getattr(feature, "dtype", str(feature))
    names = ("string", "large_string", "int", "uint", "bool")
    if not isinstance(feature, datasets.Value) or not kind.startswith(names):
        raise ValueError(
            f"{recipe.path}: column {column!r} is of type {kind}; classes are class labels, words or whole numbers. "
            "Name another column by data.columns.label"
        )
    if missing := values.count(None):
        raise ValueError(f"{recipe.path}: {missing} of {len(values)} rows have no value in column {column!r}")
    return [str(value) for value in values]
