"""Scenes with known masks: scanned digits and garments in random colours on photographs.

Digits are scikit-learn's 1,797 scans, photographs its two sample images; garments are Fashion-MNIST's, if its files
are at hand. Each scan is in scenes of one split alone, so that held-out scenes show objects that were not in training.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import cached_assets_path
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from tqdm import tqdm

from hf_vits.folders import temporary_folder
from hf_vits.processing.detection import compressed_runs

BACKGROUND = "background"
DIGITS = tuple(f"digit {number}" for number in range(10))
_SHOWN = 96  # smallest level of a scan that belongs to the object
_HELD_OUT = 0.2  # fraction of the objects that only scenes of the test split show


def scenes(
    folder: Path | None = None,
    seed: int = 0,
    count: int = 2000,
    size: int = 96,
    garments: Path | None = None,
    classes: Sequence[str] | None = None,
    coarse: bool = False,
) -> Path:
    """Return the path of a folder with scenes and masks, written if missing.

    It has the folders train and test, a fifth of the scenes being of test; in each are the folders images and masks,
    with a PNG of the same name for each scene. Masks are grey images of class indices, 0 for the background.
    `classes.txt` has a class per line. The same arguments give the same scenes. They are written completely or not at
    all, also by several processes at once.

    Args:
        folder: directory for a folder with the scenes; by default among the assets of Hugging Face's cache.
        seed: random seed of everything about the scenes.
        count: number of scenes.
        size: height and width of a scene in pixels.
        garments: directory of the four idx files of Fashion-MNIST; None: only digits are shown.
        classes: names of the classes to show, such as "digit 3" and "Bag"; by default all.
        coarse: whether all digits are one class, and all garments another; the same scenes as without.

    Raises:
        ValueError: a class is unknown, or scenes are fewer than 5 or smaller than 16 pixels.
        OSError: Fashion-MNIST's files are missing or damaged.
    """
    if count < 5 or size < 16:
        raise ValueError(f"scenes are 5 or more, of 16 pixels or more, got count={count} and size={size}")
    known = DIGITS if garments is None else (*DIGITS, *_garment_names())
    chosen = tuple(known if classes is None else classes)
    if unknown := [name for name in chosen if name not in known]:
        hint = "; `garments` names the directory of Fashion-MNIST's files" if garments is None else ""
        raise ValueError(f"there is no class {unknown[0]!r} among {', '.join(known)}{hint}")
    folder = folder or cached_assets_path("hf_vits", "images", "scenes")
    parts = "all" if classes is None else "-".join(str(known.index(name)) for name in chosen)
    target = (
        folder
        / f"seed{seed}-{count}x{size}-{'garments' if garments else 'digits'}-{parts}{'-coarse' if coarse else ''}"
    )
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder, f".{target.name}-") as partial:
            _write(partial, seed, count, size, _objects(chosen, garments), chosen, coarse)
            try:
                os.rename(partial, target)
            except OSError:  # another process has finished first
                if not target.is_dir():
                    raise
    return target


def _garment_names() -> tuple[str, ...]:
    from ..images.sources.fashion_mnist import CLASSES

    return CLASSES


@cache
def _digits() -> list[np.ndarray]:
    return _objects(DIGITS, None)


def _objects(classes: Sequence[str], garments: Path | None) -> list[np.ndarray]:
    """Return the scans of each class, (number, height, width) of uint8."""
    digits: Any = load_digits()
    scans = {
        name: np.rint(digits.images[digits.target == i] * (255 / 16)).astype(np.uint8) for i, name in enumerate(DIGITS)
    }
    if garments is not None:
        from ..images.sources import fashion_mnist

        images = fashion_mnist.read_idx(fashion_mnist.find_file(Path(garments), "train-images-idx3-ubyte"))
        labels = fashion_mnist.read_idx(fashion_mnist.find_file(Path(garments), "train-labels-idx1-ubyte"))
        scans |= {name: images[labels == i] for i, name in enumerate(fashion_mnist.CLASSES)}
    return [scans[name] for name in classes]


@cache
def _photographs() -> list[Image.Image]:
    images: Any = load_sample_images()
    return [Image.fromarray(image) for image in images.images]


def _write(
    folder: Path, seed: int, count: int, size: int, objects: list[np.ndarray], classes: Sequence[str], coarse: bool
) -> None:
    kinds = ["digit" if name in DIGITS else "garment" for name in classes] if coarse else list(classes)
    names = list(dict.fromkeys([BACKGROUND, *kinds]))
    labels = np.array([names.index(kind) for kind in [BACKGROUND, *kinds]], np.uint8)
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    for number in tqdm(range(count), "Writing scenes", unit="scene", leave=False, disable=None):
        random = np.random.default_rng((seed, number))
        split = "test" if number % 5 == 4 else "train"
        image, mask = draw_scene(random, size, objects, held_out=split == "test")
        for kind, pixels in (("images", image), ("masks", labels[mask])):
            directory = folder / split / kind
            directory.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(directory / f"{number:05}.png")


def draw_scene(
    random: np.random.Generator, size: int, objects: Sequence[np.ndarray], held_out: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (size, size, 3) and its mask (size, size) of uint8, with one to three objects.

    Args:
        objects: scans (number, height, width) of each class; class 1 is the first.
        held_out: whether scans of the test split are shown, the last fifth of each class, or others.
    """
    image, kinds, masks = draw_objects(random, size, objects, held_out)
    labels = np.zeros((size, size), np.uint8)
    for kind, mask in zip(kinds, masks, strict=True):
        labels[mask] = kind + 1
    return image, labels


def draw_objects(
    random: np.random.Generator, size: int, objects: Sequence[np.ndarray], held_out: bool = False
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Return an image (size, size, 3), the class of each of its one to three objects, from 0, and their masks.

    Masks are booleans (objects, size, size) of what is visible: later objects cover earlier ones.

    Args:
        objects, held_out: see `draw_scene`.
    """
    photograph = _photographs()[random.integers(len(_photographs()))]
    side = int(random.uniform(0.3, 1.0) * min(photograph.size))
    left, top = (int(random.integers(length - side + 1)) for length in photograph.size)
    image = np.array(photograph.crop((left, top, left + side, top + side)).resize((size, size)))
    kinds, masks = [], np.zeros((int(random.integers(1, 4)), size, size), bool)
    for mask in masks:
        kind = int(random.integers(len(objects)))
        first = int(len(objects[kind]) * (1 - _HELD_OUT))
        scan = objects[kind][random.integers(first, len(objects[kind])) if held_out else random.integers(first)]
        extent = int(random.uniform(0.3, 0.6) * size)
        pixels = np.array(Image.fromarray(scan).resize((extent, extent), Image.Resampling.BILINEAR))
        row, column = random.integers(size - extent + 1, size=2)
        shown = pixels >= _SHOWN
        colour = random.integers(64, 256, size=3) * (pixels[shown][:, None] / 255)
        place = np.s_[row : row + extent, column : column + extent]
        image[place][shown] = colour.astype(np.uint8)
        masks[: len(kinds), row : row + extent, column : column + extent][:, shown] = False
        mask[place][shown] = True
        kinds.append(kind)
    return image, kinds, masks


@dataclass(frozen=True)
class ObjectScenes:
    """Scenes of digits with the box and mask of each, drawn when they are asked for.

    Attributes:
        count: number of scenes.
        size: height and width in pixels.
        held_out: whether they show the scans of the test split.
        seed: random seed; the same seed gives the same scenes.
    """

    count: int
    size: int
    held_out: bool = False
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    def draw(self, index: int) -> tuple[np.ndarray, list[int], np.ndarray]:
        """Draw a scene, see `draw_objects`; IndexError beyond the last."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        random = np.random.default_rng((self.seed, self.held_out, index))
        return draw_objects(random, self.size, _digits(), self.held_out)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.draw(index)[0])

    def label(self, index: int) -> dict[str, Any]:
        """Return the objects of a scene as COCO's annotations, without those that are covered."""
        _, kinds, masks = self.draw(index)
        objects = []
        for kind, mask in zip(kinds, masks, strict=True):
            if not mask.any():
                continue
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
            objects.append(
                {"bbox": [int(side) for side in box], "category_id": kind, "area": int(mask.sum()), "iscrowd": 0}
                | {"segmentation": {"size": list(mask.shape), "counts": compressed_runs(torch.from_numpy(mask))}}
            )
        return {"image_id": index, "annotations": objects}
