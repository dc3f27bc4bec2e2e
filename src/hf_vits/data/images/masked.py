"""Images with masks of classes, in folders or other places."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from hf_vits.processing.opening import open_image

from . import IMAGES

CLASSES = "classes.txt"
IGNORED = 255  # label of pixels of which nothing is known
_SPLITS = {"train": ("train", "training"), "test": ("test", "val", "validation")}
_MASK_FOLDERS = ("masks", "annotations", "labels")
_NAMED = 10
# What Pillow calls images that hold one number of 8 bits per pixel.
_MASK_MODES = ("L", "P", "1")
_ADVICE = (
    f"a mask is a grey or palette PNG of 8 bits whose values number the classes, and {IGNORED} where nothing is known"
)


@dataclass(frozen=True)
class MaskedImages:
    """Images and their masks, by index.

    Attributes:
        images, masks: files, in the same order; or other sequences of images in memory.
        class_names: names of the classes; a mask has their indices, and 255 where nothing is known.
        reduced: whether masks number the classes from 1 on, and 0 is where nothing is known.
    """

    images: Sequence[Any]
    masks: Sequence[Any]
    class_names: Sequence[str]
    reduced: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """Return the file of a mask, or else its number in words."""
        mask = self.masks[index]
        return str(mask) if isinstance(mask, Path) else f"the mask of row {index}"

    def __getitem__(self, index: int) -> tuple[Image.Image, np.ndarray]:
        """Return an image and its mask (height, width) of int64.

        Raises:
            ValueError: the mask has another size than the image, or labels that are no class.
            OSError: a file cannot be read.
        """
        image, mask = self.images[index], self.masks[index]
        image = open_image(image) if isinstance(image, Path) else image
        mask = read_mask(mask) if isinstance(mask, Path) else labels_in(mask, self.name(index))
        if mask.shape != image.size[::-1]:
            raise ValueError(
                f"{self.name(index)} is {mask.shape[1]} x {mask.shape[0]} pixels, its image {image.width} x "
                f"{image.height}: masks must have the size of their images; draw it again for this image, or resize "
                "it to the nearest pixel"
            )
        if self.reduced:
            mask = np.where((mask == 0) | (mask == IGNORED), IGNORED, mask - 1)
        found = np.flatnonzero(np.bincount(mask.ravel(), minlength=IGNORED + 1))
        unknown = found[(found >= len(self.class_names)) & (found != IGNORED)]
        if unknown.size:
            first = 1 if self.reduced else 0
            raise ValueError(
                f"{self.name(index)} has the label {unknown[0] + first}, but the classes are {first} to "
                f"{len(self.class_names) - 1 + first}, and {IGNORED} where nothing is known: name all classes, or "
                f"give other pixels the label {IGNORED}"
            )
        return image, mask


def read_mask(path: Path) -> np.ndarray:
    """Return the labels (height, width) of int64 in a grey or palette image of 8 bits.

    Raises:
        ValueError: it has colours, alpha or 16 bits.
        OSError: it is damaged or missing.
    """
    try:
        with Image.open(path) as file:
            file.load()
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged bytes make Pillow's readers raise nearly every type
        raise OSError(f"cannot open the mask {path}: {str(error) or type(error).__name__}") from error
    return labels_in(file, str(path))


def labels_in(mask: Image.Image, name: str) -> np.ndarray:
    """Return the labels (height, width) of int64 of a mask that is open; `name` is for the error."""
    if mask.mode not in _MASK_MODES:
        bits = " of 16 bits or more" if mask.mode.startswith(("I", "F")) else ""
        raise ValueError(
            f"{name} is an image of mode {mask.mode}{bits}; {_ADVICE}: save the numbers themselves, without "
            "colours and alpha"
        )
    return np.array(mask).astype(np.int64)


def load_masked(folder: Path) -> dict[str, MaskedImages]:
    """Return the training and the test split of a folder of images with masks, see `find_splits`.

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: there are fewer than two classes.
    """
    found = find_splits(folder)
    chosen = {}
    for split, names in _SPLITS.items():
        name = next((name for name in names if name in found), None)
        if name is None:
            raise FileNotFoundError(
                f"{folder} has no folder {' or '.join(names)}; images with masks are in train/images, train/masks, "
                "test/images and test/masks"
            )
        chosen[split] = MaskedImages(*pair_files(*found[name]), [])
    return with_classes(chosen, str(folder), read_classes(folder))


def find_splits(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return {split: (folder of images, folder of masks)} of a folder.

    It has a folder for each split with the folders images and masks; or the folders images and masks (or annotations)
    with a folder for each split; or these two alone, which are the split "train".

    Raises FileNotFoundError where there is no such layout.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    kinds = {path: [path / name for name in _MASK_FOLDERS] for path in (folder, *_folders(folder))}
    masks = {path: next((other for other in others if other.is_dir()), None) for path, others in kinds.items()}
    own = masks.pop(folder)
    if own is not None and (folder / "images").is_dir():
        both = {path.name: (path, own / path.name) for path in _folders(folder / "images")}
        lacking = [name for name, (_, other) in both.items() if not other.is_dir()]
        if lacking:
            raise FileNotFoundError(f"{own} has no folder {lacking[0]}, which {folder / 'images'} has")
        return both or {"train": (folder / "images", own)}
    found = {path.name: (path / "images", other) for path, other in masks.items() if other is not None}
    for path in (path for path in masks if (path / "images").is_dir() and path.name not in found):
        raise FileNotFoundError(f"{path} has no folder masks, with a mask for each image of {path / 'images'}")
    if not found:
        raise FileNotFoundError(
            f"{folder} has no images with masks: they are in <split>/images and <split>/masks, in images/<split> and "
            "masks/<split> (or annotations/<split>), or in images and masks"
        )
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def pair_files(images: Path, masks: Path) -> tuple[list[Path], list[Path]]:
    """Return the images of a split and their masks, matched by their names without endings."""
    files = {}
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder.parent} has no folder {folder.name}")
        files[folder] = {
            path.stem: path
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in IMAGES.endings and not path.name.startswith(".")
        }
    if not files[images]:
        raise FileNotFoundError(f"{images} has no images")
    if missing := sorted(files[images].keys() - files[masks].keys()):
        raise FileNotFoundError(
            f"{masks} has no mask named {missing[0]}, the name of an image ({len(missing)} in all lack one): add the "
            "masks, or remove these images"
        )
    return list(files[images].values()), [files[masks][name] for name in files[images]]


def read_classes(folder: Path) -> list[str] | None:
    """Return the names of the classes in classes.txt of a folder, one per line; None without this file."""
    return read_names(folder / CLASSES) if (folder / CLASSES).is_file() else None


def read_names(path: Path) -> list[str]:
    """Return the names in a text file, one per line."""
    return [name for line in path.read_text(encoding="utf-8").splitlines() if (name := line.strip())]


def with_classes(
    splits: Mapping[str, MaskedImages], name: str, class_names: Sequence[str] | None
) -> dict[str, MaskedImages]:
    """Return splits with names of their classes; without names, the classes are numbered up to the largest label.

    Raises ValueError for fewer than two classes, or a name that is given twice.
    """
    if class_names is None:
        every = [replace(images, class_names=[""] * IGNORED) for images in splits.values()]
        highest = max((label for images in every for label in _highest_labels(images)), default=0)
        class_names = [str(label) for label in range(highest + 1)]
    if len(class_names) < 2:
        raise ValueError(f"{name} has {len(class_names)} class(es); segmentation needs two or more")
    if len(class_names) > IGNORED:
        raise ValueError(f"{name} has {len(class_names)} classes; masks of 8 bits have at most {IGNORED}")
    if twice := [one for one in class_names if list(class_names).count(one) > 1]:
        raise ValueError(f"{name} has several classes named {twice[0]!r}: give each another name")
    return {kind: replace(images, class_names=list(class_names)) for kind, images in splits.items()}


def _highest_labels(images: MaskedImages) -> Iterator[int]:
    """Yield the highest label of each mask, 0 for those that cannot be used, which `check` reports."""

    def highest(index: int) -> int:
        try:
            mask = images[index][1]
        except (ValueError, OSError):
            return 0
        return int(mask[mask != IGNORED].max(initial=0))

    with ThreadPoolExecutor() as pool:
        yield from pool.map(highest, range(len(images)))


def check(splits: Mapping[str, MaskedImages], skip: bool) -> dict[str, np.ndarray]:
    """Read every image and mask once, under a progress bar; return {split: indices of those that can be used}.

    Args:
        skip: whether to leave out those that cannot be used in place of raising.

    Raises:
        ValueError: a mask does not fit its image or the classes, or is labelled nowhere.
        OSError: a file cannot be read.
    """
    kept, problems = {}, []
    for kind, images in splits.items():
        with ThreadPoolExecutor() as pool:
            found = pool.map(_problem_of(images), range(len(images)))
            found = list(tqdm(found, f"Checking {kind} masks", len(images), unit="mask", disable=None, leave=False))
        problems += [error for error in found if error is not None]
        kept[kind] = np.flatnonzero([error is None for error in found])
        if skip and not len(kept[kind]):
            raise type(problems[-1])(f"no mask of the {kind} split can be used: {problems[-1]}")
    if problems and not skip:
        more = f"\n  and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        listed = "\n".join(f"  {error}" for error in problems[:_NAMED])
        raise (OSError if isinstance(problems[0], OSError) else ValueError)(
            f"{len(problems)} image(s) with masks cannot be used:\n{listed}{more}\nRepair them, or set "
            "data.skip_unreadable: true to leave them out."
        )
    return kept


def _problem_of(images: MaskedImages) -> Callable[[int], Exception | None]:
    def problem(index: int) -> Exception | None:
        try:
            _, mask = images[index]
        except (ValueError, OSError) as error:
            return error
        if (mask == IGNORED).all():
            what = f"0 and {IGNORED}" if images.reduced else f"{IGNORED}"
            return ValueError(
                f"{images.name(index)} has only the label {what}, where nothing is known: label some of it, or remove "
                "image and mask"
            )
        return None

    return problem
