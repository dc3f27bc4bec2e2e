"""Columns of `datasets` datasets: which hold the inputs, which their class labels."""

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from .streams import class_index, stream_split
from .tables import LABEL_COLUMNS, column_name, label_indices, sorted_classes
from .targets import target_rows

# Settings that every source of `datasets` reads.
DATASETS = ("path", "config", "data_dir", "data_files", "splits")
# What sources that can stream read besides.
STREAMS = ("streaming", "shuffle_buffer", "epoch_inputs")
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


def _available(recipe: DataRecipe, streaming: bool = False) -> Any:
    """Return {split: dataset} of the recipe's data."""
    load: Any = datasets.load_dataset  # typed by whether it streams
    chosen = {"data_dir": recipe.data_dir, "data_files": recipe.data_files or None, "streaming": streaming}
    try:
        if recipe.path is None:
            for name in _files(recipe):
                if "://" not in name and not glob.glob(name, recursive=True):
                    raise FileNotFoundError(f"data.data_files: no file matches {name}")
            return load(_format_of(next(_files(recipe)), "data.data_files"), recipe.config, **chosen)
        path = Path(recipe.path)
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file() or path.is_file():
            if recipe.data_dir or recipe.data_files:
                raise ValueError(f"data.data_files and data.data_dir choose files of a directory, not of {path}")
            if path.is_file():
                kind = _format_of(recipe.path, "data.path")
                return load(kind, data_files={"train": str(path)}, streaming=streaming)
            stored = datasets.load_from_disk(str(path))
            return stored if isinstance(stored, datasets.DatasetDict) else {"train": stored}
        return load(recipe.path, recipe.config, **chosen)
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
    for name in ("shuffle_buffer", "epoch_inputs"):
        if getattr(recipe, name) != getattr(DataRecipe(source=recipe.source), name):
            raise ValueError(f"data.{name} is for streams: set data.streaming: true, or leave it out")
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


class DatasetShards:
    """The shards of a `datasets` stream; their own shuffling and resuming are not used.

    Args:
        dataset: an IterableDataset.
        columns: of inputs and of labels.
    """

    def __init__(self, dataset: Any, path: str, columns: tuple[str, str], class_names: Sequence[str]):
        self.dataset, self.path, self.columns, self.class_names = dataset, path, columns, class_names

    def __len__(self) -> int:
        return self.dataset.num_shards

    def samples(self, number: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield (shard, row, values) of each row of a shard."""
        try:
            for row, values in enumerate(self.dataset.shard(len(self), number)):
                yield number, row, values
        except Exception as error:  # readers of every format raise their own
            raise OSError(
                f"{self.path}: shard {number} of {len(self)} cannot be read: {type(error).__name__}: {error}"
            ) from None

    def input_of(self, sample: tuple[int, int, dict[str, Any]]) -> Any:
        """Return the value in the column of inputs."""
        return sample[2][self.columns[0]]

    def class_of(self, sample: tuple[int, int, dict[str, Any]]) -> int:
        """Return the class of a row."""
        return class_index(sample[2][self.columns[1]], self.class_names, self.name_of(sample))

    def name_of(self, sample: tuple[int, int, dict[str, Any]]) -> str:
        """Return how error messages name a row."""
        return f"{self.path}: row {sample[1]} of shard {sample[0]}"


def stream_dataset_classes(recipe: DataRecipe, key: str, feature: Any, decoded: Callable[[Any], Any]) -> Loaded:
    """Load a dataset with class labels: training rows as a stream, the other splits as `load_dataset_classes` does.

    Classes that are no class labels but words or numbers are those of the other splits.

    Args:
        key, feature: as for `load_dataset_classes`.
        decoded: function from undecoded inputs, dicts of "bytes" and "path", to inputs.
    """
    name = name_of(recipe)
    streams, stored = _available(recipe, streaming=True), {}
    names = choose_splits(recipe, {split: split for split in streams})
    if "train" not in names:
        raise ValueError(f"{name} has no training split, only {sorted(streams)}; name one by data.splits.train")
    if len(names) > 1:
        loaded = _available(recipe)
        stored = {kind: loaded[split] for kind, split in names.items() if kind != "train"}
    train = streams[names["train"]]
    if train.features is None:
        raise ValueError(f"{name} does not say the types of its columns, which a stream needs; use parquet files")
    column, label = input_column(recipe, train, key, feature), _label_column(recipe, train)
    kind = train.features[label]
    if isinstance(kind, datasets.ClassLabel):
        class_names: list[str] = kind.names
    else:
        class_names = sorted_classes(name for part in stored.values() for name in _names(recipe, part, label))
    undecoded = train.select_columns([column, label]).cast_column(column, feature(decode=False))
    shards = DatasetShards(undecoded, name, (column, label), class_names)
    splits = {"train": stream_split(shards, recipe, decoded)}
    for kind, dataset in stored.items():
        labels = label_indices(name, kind, _names(recipe, dataset, label), class_names)
        splits[kind] = Split(ColumnInputs(dataset, input_column(recipe, dataset, key, feature)), labels)
    return Loaded(name, class_names, splits)


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
