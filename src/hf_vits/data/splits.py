"""Training, validation and test splits: indexed inputs with labels, whatever the source and the kind of inputs."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import datasets
import numpy as np

from hf_vits.recipe import DataRecipe

from .checks import Media, find_unreadable, known_unreadable, name_of, report
from .label_columns import is_multi_label
from .label_groups import class_names_of
from .sources import Sources

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}


class Inputs(Protocol):
    """Images, videos or recordings by index."""

    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True)
class ColumnInputs:
    """Inputs in a column of a `datasets` dataset."""

    dataset: datasets.Dataset
    column: str

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index][self.column]

    def name_of(self, index: int) -> str:
        """Return how error messages name an input."""
        return f"row {index} of column {self.column!r}"


@dataclass(frozen=True)
class ChosenInputs:
    """A selection of other inputs."""

    inputs: Inputs
    indices: np.ndarray

    def __getitem__(self, index: int) -> Any:
        return self.inputs[int(self.indices[index])]

    def name_of(self, index: int) -> str:
        """Return how error messages name an input."""
        return name_of(self.inputs, int(self.indices[index]))


@dataclass(frozen=True)
class Split:
    """Inputs and their labels.

    Attributes:
        labels: class indices (inputs,) of int64, in a stream `StreamLabels`; (inputs, heads) where an input has one
            class of each of several columns (see `label_groups`); floats (inputs, classes) where several may be true
            (see `label_columns`); or texts (inputs,). Of a regression, numbers (inputs, targets), see `targets`.
        domains: the domain of each input (inputs,), see `domains`; None where there is one.
    """

    inputs: Inputs
    labels: np.ndarray
    domains: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def substitute(self, index: int, seed: int) -> int:
        """Return the input that takes the place of one that cannot be read, by a random seed."""
        stream = getattr(self.labels, "stream", None)
        return seed % len(self) if stream is None else stream.neighbour(index)

    def subset(self, indices: np.ndarray) -> "Split":
        """Return the split of the inputs at `indices`, in that order."""
        domains = None if self.domains is None else self.domains[indices]
        return Split(ChosenInputs(self.inputs, indices), self.labels[indices], domains)


@dataclass(frozen=True)
class Splits:
    """The training, validation and test split; the last two are the same object where there is only one of them.

    Attributes:
        name: of the data, for reports.
        class_names: names of the classes, or of the numbers of a regression; empty where the labels are texts.
        head_sizes: number of classes of each head where an input has several labels (see `label_groups`), else empty.
        domain_names: names of the domains (see `domains`); empty where there is one.
        is_regression: whether the labels are numbers to predict, floats (inputs, targets).
    """

    name: str
    class_names: Sequence[str]
    train: Split
    validation: Split
    test: Split
    head_sizes: Sequence[int] = ()
    domain_names: Sequence[str] = ()
    is_regression: bool = False

    @property
    def has_one_class(self) -> bool:
        """Return whether every input has one class; labels are then integers (inputs,)."""
        return bool(self.class_names) and self.train.labels.ndim == 1 and self.train.labels.dtype.kind == "i"

    @property
    def is_multi_label(self) -> bool:
        """Return whether several classes of an input may be true; labels are then floats (inputs, classes)."""
        return not self.is_regression and is_multi_label(self.train.labels)


# (class names, or {column: class names} where files have several labels; {split: (files, labels)}).
LabelledFiles = tuple[Sequence[str] | Mapping[str, Sequence[str]], dict[str, tuple[Sequence[Path], np.ndarray]]]


class Loaded(NamedTuple):
    """What a source loads.

    Attributes:
        name: of the data, for reports.
        class_names: names of the classes, {column: class names} where an input has several labels; empty where the
            labels are texts.
        splits: the splits that the source has, "train" among them.
    """

    name: str
    class_names: Sequence[str] | Mapping[str, Sequence[str]]
    splits: dict[str, Split]


def in_files(name: str, labelled: LabelledFiles, inputs: Callable[[Sequence[Path]], Inputs]) -> Loaded:
    """Return labelled files as a source returns them; `inputs` makes the inputs of a list of paths."""
    class_names, files = labelled
    return Loaded(name, class_names, {kind: Split(inputs(paths), labels) for kind, (paths, labels) in files.items()})


def load_classes(recipe: DataRecipe, sources: Sources) -> Splits:
    """Load the labelled inputs that a recipe's data section names; raises what its source and `divide` raise."""
    return divide(recipe, sources.load(recipe))


def divide(recipe: DataRecipe, loaded: Loaded) -> Splits:
    """Return the training, validation and test split of labelled inputs, each checked.

    Raises ValueError where the number of classes, a label or a split does not fit.
    """
    name, class_names, splits = loaded
    head_sizes = ()
    if "targets" in recipe.columns:
        return Splits(name, class_names, *hold_out(name, splits, recipe, by_class=False), is_regression=True)
    if isinstance(class_names, Mapping):
        head_sizes, class_names = [len(names) for names in class_names.values()], class_names_of(class_names)
    fewest = 1 if is_multi_label(splits["train"].labels) else 2
    if min(head_sizes or [len(class_names)]) < fewest:
        raise ValueError(
            f"{name} has {len(class_names)} class(es) {list(class_names)}; a classifier needs two or more"
            f"{' for each column of labels' if head_sizes else ''}"
        )
    _check_number(name, class_names, recipe)
    train, validation, test = hold_out(name, splits, recipe, by_class=True)
    for split in (train, validation, test):
        if not hasattr(split.labels, "stream"):  # which checks each label when it is read
            _check_labels(name, split.labels, len(class_names))
    return Splits(name, class_names, train, validation, test, head_sizes)


def divide_annotated(recipe: DataRecipe, loaded: Loaded) -> Splits:
    """Return the training, validation and test split of images with objects or masks, which can be of many classes.

    Raises ValueError where the number of classes or a split does not fit.
    """
    name, class_names, splits = loaded
    names = list(class_names)
    _check_number(name, names, recipe)
    return Splits(name, names, *hold_out(name, splits, recipe, by_class=False))


def _check_number(name: str, class_names: Sequence[str], recipe: DataRecipe) -> None:
    if recipe.num_classes is not None and len(class_names) != recipe.num_classes:
        raise ValueError(
            f"{name} has {len(class_names)} classes, data.num_classes expects {recipe.num_classes}: "
            f"{', '.join(class_names[:20])}{', ...' if len(class_names) > 20 else ''}"
        )


def hold_out(name: str, splits: dict[str, Split], recipe: DataRecipe, *, by_class: bool) -> tuple[Split, Split, Split]:
    """Return the training, validation and test split, with those that a source lacks held out of training.

    Args:
        name: of the data, for error messages.
        splits: the splits of the source.
        by_class: hold out the same fraction of every class; not done where inputs have several labels.

    Raises ValueError where neither a validation nor a test split results, or training has too few inputs.
    """
    found: Any = splits
    train, validation, test = (found.get(kind) for kind in ("train", "validation", "test"))
    is_stream = hasattr(train.labels, "stream")
    if test is None and recipe.test_fraction and not is_stream:
        train, test = _take(train, recipe.test_fraction, recipe.split_seed, by_class)
    if validation is None and recipe.validation_fraction and not is_stream:
        train, validation = _take(train, recipe.validation_fraction, (recipe.split_seed + 1) % 2**32, by_class)
    if validation is None and test is None and is_stream:
        raise ValueError(f"{name} is a stream and has no validation or test split; name one by data.splits")
    if validation is None and test is None:
        raise ValueError(
            f"{name} has training data only: hold some out by data.validation_fraction or data.test_fraction"
        )
    if recipe.train_inputs is not None:
        train = _few(train, recipe, name, by_class)
    parts: Any = train, validation or test, test or validation
    return parts


def files_of(inputs: Any) -> tuple[Sequence[Path], Media] | None:
    """Return the files of inputs and their kind, also of a selection of inputs; None where they are in no files."""
    if isinstance(inputs, ChosenInputs):
        files = files_of(inputs.inputs)
        return files and ([files[0][index] for index in inputs.indices], files[1])
    return (inputs.paths, inputs.media) if hasattr(inputs, "media") else None


def without_unreadable(split: Split, recipe: DataRecipe) -> Split:
    """Decode each file of a split and return the split without those that cannot be decoded.

    Raises OSError that names them, unless data.skip_unreadable.
    """
    files = files_of(split.inputs)
    unreadable = find_unreadable(*files, recipe.path) if files else {}
    if not files or not unreadable:
        return split
    report(unreadable, files[1], recipe.skip_unreadable)
    return split.subset(np.array([i for i, path in enumerate(files[0]) if path not in unreadable], dtype=int))


def readable(splits: Splits, recipe: DataRecipe) -> Splits:
    """Return splits for a run: with data.skip_unreadable, the validation and test split without unreadable files.

    For this their files are decoded. The training split stays as it is: an unreadable file is replaced when it is met,
    see `training.examples.readable`.

    Raises OSError, unless data.skip_unreadable, for files that an earlier check of data.path found unreadable. No file
    is opened then.
    """
    if recipe.skip_unreadable:
        kept = {id(split): without_unreadable(split, recipe) for split in (splits.validation, splits.test)}
        return replace(splits, validation=kept[id(splits.validation)], test=kept[id(splits.test)])
    files = [found for split in (splits.train, splits.validation, splits.test) if (found := files_of(split.inputs))]
    known = known_unreadable(recipe.path, files[0][1]) if files and recipe.path is not None else {}
    places = ((path, os.path.abspath(path)) for paths, _ in files for path in paths) if known else ()
    if found := {path: known[place] for path, place in places if place in known}:
        report(found, files[0][1], skip=False)
    return splits


def _few(train: Split, recipe: DataRecipe, name: str, by_class: bool) -> Split:
    """Return data.train_inputs training inputs."""
    if hasattr(train.labels, "stream"):
        raise ValueError(f"data.train_inputs: {name} is a stream, of which train.length decides how much is read")
    if recipe.train_inputs > len(train):
        raise ValueError(f"data.train_inputs: {name} has {len(train)} training inputs, got {recipe.train_inputs}")
    if recipe.train_inputs == len(train):
        return train
    return _take(train, recipe.train_inputs, (recipe.split_seed + 2) % 2**32, by_class)[1]


def _take(split: Split, part: float | int, seed: int, by_class: bool) -> tuple[Split, Split]:
    """Return `split` without a random fraction, or number, of its inputs, and these."""
    from sklearn.model_selection import train_test_split  # here, since it imports much and not every run holds out

    try:
        kept, taken = train_test_split(
            np.arange(len(split)),
            test_size=part,
            stratify=split.labels if by_class and split.labels.ndim == 1 else None,
            random_state=seed,
        )
    except ValueError as error:
        some = " with some of every class" if by_class else ""
        what = f"{part:.0%}" if isinstance(part, float) else part
        raise ValueError(f"cannot hold out {what} of {len(split)} examples{some}: {error}") from error
    return split.subset(np.sort(kept)), split.subset(np.sort(taken))


def _check_labels(name: str, labels: np.ndarray, num_classes: int) -> None:
    if is_multi_label(labels):
        if labels.shape[1] != num_classes or not np.isin(labels[~np.isnan(labels)], (0, 1)).all():
            raise ValueError(f"{name}: labels must be 0, 1 or NaN for each of {num_classes} classes")
        return
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise ValueError(
            f"{name}: {outside.sum()} of {len(labels)} labels lie outside 0 to {num_classes - 1} "
            f"(first: {labels[outside][0]}); is this split labelled? Choose others by data.splits"
        )


def choose_splits(recipe: DataRecipe, available: dict) -> dict:
    """Return the splits to use under the names train, validation and test: those of data.splits, or of usual names.

    Args:
        available: {name of split: anything}.

    Returns:
        Values of `available`; empty if data.splits is empty and no split has a usual name.
    """
    for kind, name in recipe.splits.items():
        if name not in available:
            raise ValueError(
                f"data.splits.{kind}: {recipe.path} has no split {name!r}, only {', '.join(available) or 'none'}"
            )
    chosen = recipe.splits or {
        kind: name for kind, names in _SPLIT_NAMES.items() for name in reversed(names) if name in available
    }
    if chosen and "train" not in chosen:
        raise ValueError(
            f"{recipe.path} has no training split, only {sorted(available)}; name one by data.splits.train"
        )
    return {kind: available[name] for kind, name in chosen.items()}
