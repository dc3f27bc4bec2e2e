"""Where a recipe's images come from: scikit-learn's digits, idx files, image folders, `datasets`."""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets.folder import IMG_EXTENSIONS
from transformers import PreTrainedConfig, PreTrainedModel

from hf_vits.recipe import DataRecipe

from .folders import Media, load_class_folders
from .splits import Split, load_dataset_classes

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


def backbone_config(model: PreTrainedModel) -> PreTrainedConfig:
    """That of the part of the model that takes images, which may be the model itself."""
    return getattr(model.config, "backbone_config", model.config)


def image_mode(model: PreTrainedModel) -> str:
    """PIL's mode of the images that the model takes."""
    return {1: "L", 3: "RGB"}[backbone_config(model).num_channels]


def image_problem(path: Path) -> str | None:
    """Why the image cannot be decoded, or None if it can."""
    try:
        with Image.open(path) as image:
            # A JPEG decodes several times faster at an eighth of its size, and still reads every byte.
            image.draft("RGB", (1, 1))
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)
    return None


IMAGES = Media("image", IMG_EXTENSIONS, image_problem)


def _digits(recipe: DataRecipe) -> tuple[str, Sequence[str], dict[str, Split]]:
    """scikit-learn's 1,797 scans of 8 x 8 pixels, grey levels 0 to 16."""
    digits: Any = load_digits()
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
    class_names, files = load_class_folders(recipe, IMAGES)
    splits = {kind: Split(FileImages(paths), labels) for kind, (paths, labels) in files.items()}
    return Path(recipe.path).name, class_names, splits


SOURCES = {
    "digits": _digits,
    "fashion_mnist": _fashion_mnist,
    "folder": _folder,
    "datasets": partial(load_dataset_classes, feature=datasets.Image),
}
