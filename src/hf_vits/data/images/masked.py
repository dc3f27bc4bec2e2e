"""Images with masks of classes, in folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hf_vits.processing.opening import open_image

from . import IMAGES

CLASSES = "classes.txt"
_SPLITS = {"train": ("train", "training"), "test": ("test", "val", "validation")}


@dataclass(frozen=True)
class MaskedImages:
    """Images and their masks, by index.

    Attributes:
        images, masks: files, in the same order.
        class_names: names of the classes; a mask has their indices, and 255 where nothing is known.
    """

    images: Sequence[Path]
    masks: Sequence[Path]
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Return an image and its mask (height, width).

        Raises:
            ValueError: the mask has another size than the image, or labels that are no class.
            OSError: a file cannot be read.
        """
        image, mask = open_image(self.images[index]), read_mask(self.masks[index])
        if mask.shape != image.size[::-1]:
            raise ValueError(
                f"{self.masks[index]} is {mask.shape[1]} x {mask.shape[0]} pixels, its image {image.width} x "
                f"{image.height}: masks must have the size of their images"
            )
        unknown = np.setdiff1d(mask, [*range(len(self.class_names)), 255])
        if unknown.size:
            raise ValueError(
                f"{self.masks[index]} has the label {unknown[0]}, but the classes are 0 to "
                f"{len(self.class_names) - 1}, and 255 where nothing is known"
            )
        return image, mask


def read_mask(path: Path) -> np.ndarray:
    """Return the labels (height, width) in a grey or palette image; ValueError for an image of colours."""
    with Image.open(path) as file:
        if file.mode not in ("L", "P", "1", "I", "I;16"):
            raise ValueError(f"{path} is an image of mode {file.mode}; a mask is a grey or palette image of labels")
        return np.array(file).astype(np.int64)


def load_masked(folder: Path) -> dict[str, MaskedImages]:
    """Return the training and the test split of a folder of images with masks.

    The folder has a folder for each split, train and test (or val); each has the folders images and masks, with files
    of the same names but for their endings. `classes.txt` has the name of a class per line; without it, classes are
    numbered up to the largest label.

    Raises:
        FileNotFoundError: a folder or file is missing.
    """
    found = {}
    for split, names in _SPLITS.items():
        directory = next((folder / name for name in names if (folder / name).is_dir()), None)
        if directory is None:
            raise FileNotFoundError(
                f"{folder} has no folder {' or '.join(names)}; images with masks are in train/images, train/masks, "
                "test/images and test/masks"
            )
        found[split] = pair_files(directory)
    listed = folder / CLASSES
    if listed.is_file():
        names = [name for line in listed.read_text(encoding="utf-8").splitlines() if (name := line.strip())]
    else:
        labels = [read_mask(path) for _, masks in found.values() for path in masks]
        names = [str(label) for label in range(max(int(mask[mask != 255].max(initial=0)) for mask in labels) + 1)]
    if len(names) < 2:
        raise ValueError(f"{folder} has {len(names)} class(es); segmentation needs two or more")
    return {split: MaskedImages(*files, names) for split, files in found.items()}  # pyright: ignore[reportCallIssue]


def pair_files(directory: Path) -> tuple[list[Path], list[Path]]:
    """Return the images of a split and their masks, matched by name."""
    files = {}
    for kind in ("images", "masks"):
        if not (directory / kind).is_dir():
            raise FileNotFoundError(f"{directory} has no folder {kind}")
        files[kind] = {
            path.stem: path
            for path in sorted((directory / kind).iterdir())
            if path.suffix.lower() in IMAGES.endings and not path.name.startswith(".")
        }
    if not files["images"]:
        raise FileNotFoundError(f"{directory / 'images'} has no images")
    if missing := sorted(files["images"].keys() - files["masks"].keys()):
        raise FileNotFoundError(f"{directory / 'masks'} has no mask named {missing[0]}, the name of an image")
    return list(files["images"].values()), [files["masks"][name] for name in files["images"]]
