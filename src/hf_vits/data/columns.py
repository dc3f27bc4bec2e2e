"""Columns of `datasets` datasets: which hold the inputs, which their class labels."""

import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
from datasets.exceptions import DatasetGenerationError

from hf_vits.recipe import DataRecipe

from .label_columns import all_matching, label_rows, multi_hot
from .sources import required_path
from .splits import ColumnInputs, Loaded, Split, choose_splits
from .tables import LABEL_COLUMNS, column_name, label_indices, sorted_classes
from .targets import target_rows

# Settings that every source of `datasets` reads.
DATASETS = ("path", "config", "data_dir", "data_files", "splits")
# {ending of a file: module of `datasets` that reads it}
_FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset", ".zip": "imagefolder"}


def load_dataset_splits(recipe: DataRecipe) -> dict[str, datasets.Dataset]:
    """Load the dataset data.path and return the splits of it that the recipe uses, the training split among them.

    It is a name on the Hub; a module of `datasets`, such as imagefolder; a directory that `save_to_disk` wrote;
    another directory, of files that `datasets` recognises, such as parquet, tar archives of webdataset, or images with
    metadata.csv; or one such file. data.data_files and data.data_dir choose files of it; without data.path, the
    ending of data.data_files determines the module.

    Raises:
        OSError: the files cannot be read, with the cause.
        ValueError: there is no training split.
    """
    if recipe.path is None and not recipe.data_files:
        required_path(recipe, "the name of a dataset on the Hub, a local directory, or a file; or data.data_files")
    available = _available(recipe)
    loaded = choose_splits(recipe, available)
    if not loaded:
        raise ValueError(
            f"{name_of(recipe)} has no training split, only {sorted(available)}; name one by data.splits.train"
        )
    return loaded


def name_of(recipe: DataRecipe) -> str:
    """Return the name of the data: data.path, or the first of data.data_files."""
    return recipe.path or next(_files(recipe))


def _available(recipe: DataRecipe) -> Any:
    """Return {split: dataset} of the recipe's data."""
    chosen = {"data_dir": recipe.data_dir, "data_files": recipe.data_files or None}
    try:
        if recipe.path is None:
            for name in _files(recipe):
                if "://" not in name and not glob.glob(name, recursive=True):
                    raise FileNotFoundError(f"data.data_files: no file matches {name}")
            return datasets.load_dataset(_format_of(next(_files(recipe)), "data.data_files"), recipe.config, **chosen)
        path = Path(recipe.path)
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file() or path.is_file():
            if recipe.data_dir or recipe.data_files:
                raise ValueError(f"data.data_files and data.data_dir choose files of a directory, not of {path}")
            if path.is_file():
                return datasets.load_dataset(_format_of(recipe.path, "data.path"), data_files={"train": str(path)})
            stored = datasets.load_from_disk(str(path))
            return stored if isinstance(stored, datasets.DatasetDict) else {"train": stored}
        return datasets.load_dataset(recipe.path, recipe.config, **chosen)
    except (DatasetGenerationError, pyarrow.ArrowInvalid) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise OSError(f"{name_of(recipe)} cannot be loaded: {type(cause).__name__}: {cause}") from error


def _files(recipe: DataRecipe) -> Iterator[str]:
    """Yield the files and patterns of data.data_files."""
    files: Any = recipe.data_files
    for listed in files.values() if isinstance(files, dict) else [files]:
        yield from [listed] if isinstance(listed, str) else listed


def _format_of(name: str, key: str) -> str:
    """Return the module of `datasets` that reads files of this name."""
    ending = Path(name).suffix.lower()
    if ending not in _FORMATS:
        raise ValueError(
            f"{key} {name}: a file of a dataset ends in {', '.join(_FORMATS)}"
            f"{'; for others name the module as data.path, such as imagefolder' if key == 'data.data_files' else ''}"
        )
    return _FORMATS[ending]


def load_dataset_classes(recipe: DataRecipe, key: str, feature: type) -> Loaded:
    """Load a dataset with class labels, or with numbers where data.columns names targets.

    Args:
        key: key of data.columns for the column of inputs.
        feature: type of that column, such as datasets.Image.
    """
    loaded = load_dataset_splits(recipe)
    inputs = {
        kind: ColumnInputs(dataset, input_column(recipe, dataset, key, feature)) for kind, dataset in loaded.items()
    }
    if "targets" in recipe.columns:
        names, targets = _targets(recipe, loaded)
        return Loaded(name_of(recipe), names, {kind: Split(inputs[kind], targets[kind]) for kind in loaded})
    several = _several(recipe, loaded["train"])
    class_names, labels = _multi_labels(recipe, loaded, several) if several else _labels(recipe, loaded)
    return Loaded(name_of(recipe), class_names, {kind: Split(inputs[kind], labels[kind]) for kind in loaded})


def input_column(recipe: DataRecipe, dataset: datasets.Dataset, key: str, feature: type) -> str:
    """Return the column that data.columns names under `key`, or else the first one of type `feature`.

    Raises ValueError where there is no such column, or the one that is named has another type.
    """
    named: Any = recipe.columns.get(key)  # one name: only labels may have several
    if named is not None and named not in dataset.features:
        raise ValueError(f"data.columns.{key}: {name_of(recipe)} has no column {named!r}, only {_listed(dataset)}")
    for name in [named] if named is not None else dataset.features:
        if isinstance(dataset.features[name], feature):
            return name
    if named is not None:
        raise ValueError(
            f"data.columns.{key}: column {named!r} of {name_of(recipe)} is not of type {feature.__name__}"
        )
    raise ValueError(f"{name_of(recipe)} has no column of type {feature.__name__}, only {_listed(dataset)}")


def _several(recipe: DataRecipe, dataset: datasets.Dataset) -> list[str]:
    """Return the columns of labels of which several may be true; empty where each input has one class.

    They are those that data.columns.labels names, or else the first column of lists of class labels, if there is no
    column of single ones.
    """
    if "labels" in recipe.columns:
        return all_matching(f"data.columns.labels: {name_of(recipe)}", recipe.columns["labels"], dataset.features)
    kinds = dataset.features.items()
    if "label" in recipe.columns or any(isinstance(kind, datasets.ClassLabel) for _, kind in kinds):
        return []
    return [name for name, kind in kinds if isinstance(getattr(kind, "feature", None), datasets.ClassLabel)][:1]


def _targets(recipe: DataRecipe, loaded: Mapping[str, datasets.Dataset]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of the numbers to predict, and per split the numbers (rows, targets), see `targets`."""
    rows = {}
    for kind, dataset in loaded.items():
        source = f"data.columns.targets: {name_of(recipe)}, {kind} split,"
        names = all_matching(source, recipe.columns["targets"], dataset.features)
        for name in names:
            feature = dataset.features[name]
            inner = getattr(feature, "feature", feature)
            if not isinstance(inner, datasets.Value) or not inner.dtype.startswith(("float", "int", "uint")):
                raise ValueError(f"{source} column {name!r} has no numbers, only values of type {feature}")
        values = [list(dataset[name]) for name in names]
        rows[kind] = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    return target_rows(name_of(recipe), rows)


def _multi_labels(
    recipe: DataRecipe, loaded: Mapping[str, datasets.Dataset], columns: list[str]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of the labels, and per split the labels (rows, labels), see `label_columns`."""
    for kind, dataset in loaded.items():
        if missing := [name for name in columns if name not in dataset.features]:
            raise ValueError(f"{name_of(recipe)}: the {kind} split has no column {', '.join(missing)}")
    values = {kind: {name: list(dataset[name]) for name in columns} for kind, dataset in loaded.items()}
    inner = getattr(loaded["train"].features[columns[0]], "feature", None)
    if len(columns) > 1 or inner is None:
        rows = {
            kind: [dict(zip(part, row, strict=True)) for row in zip(*part.values(), strict=True)]
            for kind, part in values.items()
        }
        return label_rows(name_of(recipe), rows)
    lists = {kind: part[columns[0]] for kind, part in values.items()}
    if not isinstance(inner, datasets.ClassLabel):
        return label_rows(name_of(recipe), lists)
    names = inner.names
    if any(dataset.features[columns[0]].feature.names != names for dataset in loaded.values()):
        raise ValueError(f"the splits of dataset {name_of(recipe)} have different labels in column {columns[0]!r}")
    return names, {kind: multi_hot(name_of(recipe), kind, rows, range(len(names))) for kind, rows in lists.items()}


def _listed(dataset: datasets.Dataset) -> str:
    return ", ".join(f"{name} ({getattr(kind, 'dtype', kind)})" for name, kind in dataset.features.items())


def _labels(recipe: DataRecipe, loaded: Mapping[str, datasets.Dataset]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the class names, and per split the labels (rows,): -1 or another value outside marks a row without."""
    columns = {kind: _label_column(recipe, dataset) for kind, dataset in loaded.items()}
    kinds = {kind: dataset.features[columns[kind]] for kind, dataset in loaded.items()}
    if all(isinstance(kind, datasets.ClassLabel) for kind in kinds.values()):
        names = {kind: feature.names for kind, feature in kinds.items()}
        if any(other != names["train"] for other in names.values()):
            raise ValueError(f"the splits of dataset {name_of(recipe)} have different classes: {names}")
        values = {kind: dataset.with_format("numpy")[columns[kind]][:] for kind, dataset in loaded.items()}
        return names["train"], {kind: np.asarray(found, dtype=np.int64) for kind, found in values.items()}
    values = {kind: _names(recipe, dataset, columns[kind]) for kind, dataset in loaded.items()}
    class_names = sorted_classes(values["train"])
    return class_names, {
        kind: label_indices(name_of(recipe), kind, found, class_names) for kind, found in values.items()
    }


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
            f"{name_of(recipe)}: column {column!r} is of type {kind}; classes are class labels, words or whole "
            "numbers. Name another column by data.columns.label, or numbers to predict by data.columns.targets"
        )
    if missing := values.count(None):
        raise ValueError(f"{name_of(recipe)}: {missing} of {len(values)} rows have no value in column {column!r}")
    return [str(value) for value in values]
