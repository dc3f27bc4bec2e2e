"""Images and labels of a recipe's data section: scikit-learn's digits, idx files, image folders, `datasets`."""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import datasets
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from .folder import load_folder
from .recipe import DataRecipe

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}


class Images(Protocol):
    """Images by their number."""

    def __getitem__(self, index: int) -> Image.Image: ...


@dataclass(frozen=True)
class ArrayImages:
    """Grey images in an array (number, height, width) of uint8."""

    pixels: np.ndarray

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])


@dataclass(frozen=True)
class FileImages:
    """Images in files."""

    paths: Sequence[Path]

    def __getitem__(self, index: int) -> Image.Image:
        return Image.open(self.paths[index])


@dataclass(frozen=True)
class ColumnImages:
    """Images in a column of a `datasets` dataset."""

    dataset: datasets.Dataset
    column: str

    def __getitem__(self, index: int) -> Image.Image:
        return self.dataset[index][self.column]


@dataclass(frozen=True)
class ChosenImages:
    """Some of other images."""

    images: Images
    indices: np.ndarray

    def __getitem__(self, index: int) -> Image.Image:
        return self.images[int(self.indices[index])]


@dataclass(frozen=True)
class Split:
    """Images and their labels: `labels[i]`, an int64, is the class of `images[i]`."""

    images: Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray) -> "Split":
        """The images at `indices`, in that order."""
        return Split(ChosenImages(self.images, indices), self.labels[indices])


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images of one source; validation and test are the same object if it has one."""

    name: str
    class_names: Sequence[str]
    train: Split
    validation: Split
    test: Split


def load_splits(recipe: DataRecipe) -> Splits:
    """Load the images that a recipe's data section names.

    Raises:
        FileNotFoundError: no such directory, or no images in it.
        OSError: unreadable or truncated files, counted and named.
        ValueError: splits, columns, classes or labels that do not fit together.
    """
    name, class_names, splits = _SOURCES[recipe.source](recipe)
    if len(class_names) < 2:
        raise ValueError(
            f"{name} has {len(class_names)} class(es) {list(class_names)}; a classifier needs two or more"
        )
    if recipe.num_classes is not None and len(class_names) != recipe.num_classes:
        raise ValueError(
            f"{name} has {len(class_names)} classes, data.num_classes expects {recipe.num_classes}: "
            f"{', '.join(class_names[:20])}{', ...' if len(class_names) > 20 else ''}"
        )
    train, validation, test = _hold_out(name, splits, recipe)
    for split in (train, validation, test):
        _check_labels(name, split.labels, len(class_names))
    return Splits(name, class_names, train, validation, test)


def _hold_out(name: str, splits: dict[str, Split], recipe: DataRecipe) -> tuple[Split, Split, Split]:
    """Train, validation and test from the splits that exist, held out of training where they do not."""
    train, validation, test = (splits.get(kind) for kind in ("train", "validation", "test"))
    if test is None and recipe.test_fraction:
        train, test = _take(train, recipe.test_fraction, recipe.split_seed)
    if validation is None and recipe.validation_fraction:
        train, validation = _take(train, recipe.validation_fraction, recipe.split_seed + 1)
    if validation is None and test is None:
        raise ValueError(
            f"{name} has training images only: hold some out by data.validation_fraction or data.test_fraction"
        )
    return train, validation or test, test or validation


def _take(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """`split` without and with a `fraction` of the images of every class."""
    try:
        kept, taken = train_test_split(
            np.arange(len(split)), test_size=fraction, stratify=split.labels, random_state=seed
        )
    except ValueError as error:
        raise ValueError(
            f"cannot hold out {fraction:.0%} of {len(split)} images with some of every class: {error}"
        ) from error
    return split.subset(np.sort(kept)), split.subset(np.sort(taken))


def _check_labels(name: str, labels: np.ndarray, num_classes: int) -> None:
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise ValueError(
            f"{name}: {outside.sum()} of {len(labels)} labels lie outside 0 to {num_classes - 1} "
            f"(first: {labels[outside][0]}); is this split labelled? Choose others by data.splits"
        )


def _digits(recipe: DataRecipe) -> tuple[str, Sequence[str], dict[str, Split]]:
    """scikit-learn's 1,797 scans of 8 x 8 pixels, grey levels 0 to 16."""
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    split = Split(ArrayImages(pixels), digits.target.astype(np.int64))
    return "scikit-learn digits", [str(name) for name in digits.target_names], {"train": split}


def _fashion_mnist(recipe: DataRecipe) -> tuple[str, Sequence[str], dict[str, Split]]:
    directory = Path(recipe.path)
    splits = {
        "train": _idx_split(directory, "train"),
        "test": _idx_split(directory, "t10k"),
    }
    return "Fashion-MNIST", FASHION_MNIST_CLASSES, splits


def _idx_split(directory: Path, prefix: str) -> Split:
    images = read_idx(_idx_file(directory, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_idx_file(directory, f"{prefix}-labels-idx1-ubyte")).astype(np.int64)
    if len(images) != len(labels):
        raise ValueError(f"{directory}: {prefix} has {len(images)} images and {len(labels)} labels")
    return Split(ArrayImages(images), labels)


def _idx_file(directory: Path, name: str) -> Path:
    for path in (directory / f"{name}.gz", directory / name):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{directory} has no {name}[.gz]; data.path must be the directory of the four Fashion-MNIST idx files"
    )


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an idx file, plain or gzipped.

    Format: two zero bytes, type 8, number of dimensions, each dimension as big-endian uint32, the values.

    Raises:
        OSError: truncated, or no idx file of uint8.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"{path} is truncated or damaged: {error}") from error
    header = 4 + 4 * content[3] if len(content) > 3 else 4
    if content[:3] != b"\0\0\x08" or len(content) < header:
        raise OSError(f"{path} is no idx file of unsigned bytes: it starts with {content[:4].hex() or 'nothing'}")
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    if len(content) != header + math.prod(shape):
        raise OSError(f"{path} has {len(content) - header} values, its header announces {shape}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _folder(recipe: DataRecipe) -> tuple[str, Sequence[str], dict[str, Split]]:
    root = Path(recipe.path)
    if not root.is_dir():
        raise FileNotFoundError(f"data.path {root} is no directory")
    directories = _choose_splits(recipe, {d.name: d for d in sorted(root.iterdir()) if d.is_dir()})
    if not directories:
        directories = {"train": root}
    class_names, files = load_folder(directories, recipe.skip_unreadable)
    return root.name, class_names, {kind: Split(FileImages(paths), labels) for kind, (paths, labels) in files.items()}


def _datasets(recipe: DataRecipe) -> tuple[str, Sequence[str], dict[str, Split]]:
    name = recipe.path
    available = datasets.load_dataset(name, recipe.config)
    loaded = _choose_splits(recipe, available)
    if not loaded:
        raise ValueError(f"{name} has no training split, only {sorted(available)}; name one by data.splits.train")
    splits, class_names = {}, {}
    for kind, dataset in loaded.items():
        images, labels = _column(name, dataset, datasets.Image), _column(name, dataset, datasets.ClassLabel)
        splits[kind] = Split(ColumnImages(dataset, images), dataset.with_format("numpy")[labels][:])
        class_names[kind] = dataset.features[labels].names
    if any(names != class_names["train"] for names in class_names.values()):
        raise ValueError(f"the splits of dataset {name} have different classes: {class_names}")
    return name, class_names["train"], splits


def _column(name: str, dataset: datasets.Dataset, feature: type) -> str:
    for column, kind in dataset.features.items():
        if isinstance(kind, feature):
            return column
    raise ValueError(f"dataset {name} has no {feature.__name__} column, only {dataset.features}")


def _choose_splits(recipe: DataRecipe, available: dict) -> dict:
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


_SOURCES = {"digits": _digits, "fashion_mnist": _fashion_mnist, "folder": _folder, "datasets": _datasets}
