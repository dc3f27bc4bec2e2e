"""What every recipe's data section comes to, images or not: numbered inputs with labels, in three splits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import datasets
import numpy as np
from sklearn.model_selection import train_test_split

from hf_vits.recipe import DataRecipe

from .label_groups import class_names_of

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}


class Inputs(Protocol):
    """Images, videos or recordings by their number."""

    def __getitem__(self, index: int) -> Any: ...


@dataclass(frozen=True)
class ColumnInputs:
    """Inputs in a column of a `datasets` dataset."""

    dataset: datasets.Dataset
    column: str

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index][self.column]


@dataclass(frozen=True)
class ChosenInputs:
    """Some of other inputs."""

    inputs: Inputs
    indices: np.ndarray

    def __getitem__(self, index: int) -> Any:
        return self.inputs[int(self.indices[index])]


@dataclass(frozen=True)
class Split:
    """Inputs and labels: `labels[i]` is the class of `inputs[i]` (int64), its classes (see `heads`) or its text."""

    inputs: Inputs
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray) -> "Split":
        """The inputs at `indices`, in that order."""
        return Split(ChosenInputs(self.inputs, indices), self.labels[indices])


@dataclass(frozen=True)
class Splits:
    """Training, validation and test part of one source; validation and test are the same object if it has one.

    class_names: what the labels stand for; empty where they are texts.
    head_sizes: where an input has several labels, how many of the classes belong to each, see `heads`.
    """

    name: str
    class_names: Sequence[str]
    train: Split
    validation: Split
    test: Split
    head_sizes: Sequence[int] = ()


# A source: from a recipe's data section to its name, class names ({column: class names} where an input has several
# labels) and whatever splits it has.
Source = Callable[[DataRecipe], tuple[str, Sequence[str] | dict[str, list[str]], dict[str, Split]]]


def load_classes(recipe: DataRecipe, sources: Mapping[str, Source]) -> Splits:
    """Load the labelled inputs that a recipe's data section names.

    Args:
        sources: {name that data.source may have: what loads it}.

    Raises:
        FileNotFoundError: no such directory, or nothing in it.
        OSError: unreadable or truncated files, counted and named.
        ValueError: splits, columns, classes or labels that do not fit together.
    """
    name, class_names, splits = load_source(recipe, sources)
    head_sizes = ()
    if isinstance(class_names, dict):
        head_sizes, class_names = [len(names) for names in class_names.values()], class_names_of(class_names)
    if min(head_sizes or [len(class_names)]) < 2:
        raise ValueError(
            f"{name} has {len(class_names)} class(es) {list(class_names)}; a classifier needs two or more"
            f"{' for each column of labels' if head_sizes else ''}"
        )
    if recipe.num_classes is not None and len(class_names) != recipe.num_classes:
        raise ValueError(
            f"{name} has {len(class_names)} classes, data.num_classes expects {recipe.num_classes}: "
            f"{', '.join(class_names[:20])}{', ...' if len(class_names) > 20 else ''}"
        )
    train, validation, test = hold_out(name, splits, recipe, by_class=True)
    for split in (train, validation, test):
        _check_labels(name, split.labels, len(class_names))
    return Splits(name, class_names, train, validation, test, head_sizes)


def load_source(
    recipe: DataRecipe, sources: Mapping[str, Source]
) -> tuple[str, Sequence[str] | dict[str, list[str]], dict[str, Split]]:
    """Name, class names and splits of the recipe's source; ValueError for one that the task does not have."""
    if recipe.source not in sources:
        raise ValueError(f"data.source {recipe.source!r} is none of this task's: {', '.join(sources)}")
    return sources[recipe.source](recipe)


def hold_out(name: str, splits: dict[str, Split], recipe: DataRecipe, *, by_class: bool) -> tuple[Split, Split, Split]:
    """Train, validation and test from the splits that exist, held out of training where they do not.

    by_class: whether a held-out part has its share of every class; not where inputs have several.
    """
    found: Any = splits
    train, validation, test = (found.get(kind) for kind in ("train", "validation", "test"))
    if test is None and recipe.test_fraction:
        train, test = _take(train, recipe.test_fraction, recipe.split_seed, by_class)
    if validation is None and recipe.validation_fraction:
        train, validation = _take(train, recipe.validation_fraction, recipe.split_seed + 1, by_class)
    if validation is None and test is None:
        raise ValueError(
            f"{name} has training data only: hold some out by data.validation_fraction or data.test_fraction"
        )
    parts: Any = train, validation or test, test or validation
    return parts


def _take(split: Split, fraction: float, seed: int, by_class: bool) -> tuple[Split, Split]:
    """`split` without and with a `fraction` of it."""
    try:
        kept, taken = train_test_split(
            np.arange(len(split)),
            test_size=fraction,
            stratify=split.labels if by_class and split.labels.ndim == 1 else None,
            random_state=seed,
        )
    except ValueError as error:
        some = " with some of every class" if by_class else ""
        raise ValueError(f"cannot hold out {fraction:.0%} of {len(split)} examples{some}: {error}") from error
    return split.subset(np.sort(kept)), split.subset(np.sort(taken))


def _check_labels(name: str, labels: np.ndarray, num_classes: int) -> None:
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise ValueError(
            f"{name}: {outside.sum()} of {len(labels)} labels lie outside 0 to {num_classes - 1} "
            f"(first: {labels[outside][0]}); is this split labelled? Choose others by data.splits"
        )


def load_dataset_classes(recipe: DataRecipe, feature: type) -> tuple[str, list[str], dict[str, Split]]:
    """A source: a `datasets` dataset with a column of `feature` (datasets.Image, ...) and one of class labels."""
    name = str(recipe.path)
    available = datasets.load_dataset(name, recipe.config)
    loaded = choose_splits(recipe, available)
    if not loaded:
        raise ValueError(f"{name} has no training split, only {sorted(available)}; name one by data.splits.train")
    splits, class_names = {}, {}
    for kind, dataset in loaded.items():
        inputs, labels = column_of(name, dataset, feature), column_of(name, dataset, datasets.ClassLabel)
        splits[kind] = Split(ColumnInputs(dataset, inputs), dataset.with_format("numpy")[labels][:])
        class_names[kind] = dataset.features[labels].names
    if any(names != class_names["train"] for names in class_names.values()):
        raise ValueError(f"the splits of dataset {name} have different classes: {class_names}")
    return name, class_names["train"], splits


def column_of(name: str, dataset: datasets.Dataset, feature: type) -> str:
    for column, kind in dataset.features.items():
        if isinstance(kind, feature):
            return column
    raise ValueError(f"dataset {name} has no {feature.__name__} column, only {dataset.features}")


def choose_splits(recipe: DataRecipe, available: dict) -> dict:
    """The recipe's own choice of splits, or else those of a usual name, as train, validation and test.

    Empty if none has a usual name.
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
