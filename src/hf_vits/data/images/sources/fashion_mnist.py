"""Fashion-MNIST (arXiv 1708.07747) from its four idx files in the directory data.path, gzipped or not."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from hf_vits.data.sources import required_path
from hf_vits.data.splits import Loaded, Split
from hf_vits.recipe import DataRecipe

from .. import ArrayImages

READS = ("path",)

CLASSES = (
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


def load(recipe: DataRecipe) -> Loaded:
    """Load the 60,000 training and 10,000 test images of 28 x 28 pixels."""
    directory = required_path(recipe, "the directory of the four idx files")
    return Loaded("Fashion-MNIST", CLASSES, {"train": _split(directory, "train"), "test": _split(directory, "t10k")})


def _split(directory: Path, prefix: str) -> Split:
    images = read_idx(find_file(directory, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(find_file(directory, f"{prefix}-labels-idx1-ubyte")).astype(np.int64)
    if len(images) != len(labels):
        raise ValueError(f"{directory}: {prefix} has {len(images)} images and {len(labels)} labels")
    return Split(ArrayImages(images), labels)


def find_file(directory: Path, name: str) -> Path:
    """Return the path of an idx file, gzipped or not; FileNotFoundError if there is neither."""
    for path in (directory / f"{name}.gz", directory / name):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{directory} has no {name}[.gz]; data.path must be the directory of the four Fashion-MNIST idx files"
    )


def read_idx(path: Path) -> np.ndarray:
    """Return the uint8 array in an idx file, plain or gzipped.

    Format: two zero bytes, type 8, number of dimensions, each dimension as big-endian uint32, the values.

    Raises:
        OSError: the file is truncated, damaged or no idx file of uint8.
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
