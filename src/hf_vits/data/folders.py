"""Folders of files, one directory per class. They are listed, not opened: see `checks` for files that are damaged."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from hf_vits.recipe import DataRecipe

from .checks import Media
from .file_lists import FileList
from .sources import required_path
from .splits import Inputs, LabelledFiles, Loaded, choose_splits, in_files

logger = logging.getLogger(__name__)

_NAMED_ENDINGS = 10

# What every source `folder` reads of a recipe's data section.
READS = ("path", "splits", "skip_unreadable")


def is_hidden(name: str) -> bool:
    """Return whether a file or folder was made by a system or an editor, not by whoever collected the data.

    Such are .ipynb_checkpoints, .DS_Store and all others with a leading dot, AppleDouble files (._photo.jpg) among
    them, and __MACOSX, which archives of macOS contain.
    """
    return name.startswith(".") or name == "__MACOSX"


def class_directories(directory: Path) -> list[Path]:
    """Return the directories in a directory that are not hidden, in alphabetical order."""
    return sorted(path for path in directory.iterdir() if path.is_dir() and not is_hidden(path.name))


def visible_files(directory: Path) -> list[Path]:
    """Return the files at any depth of a directory that are not hidden, nor in a hidden folder, in order.

    Links to folders are followed, each folder once.
    """
    return [Path(root, name) for root, names in visible_names(directory) for name in names]


def visible_names(directory: str | Path) -> list[tuple[str, list[str]]]:
    """Return the folders in which `visible_files` finds files, in order, each with the names of its files in order."""
    found, entered = [], set()
    for root, folders, files in os.walk(directory, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        if (real := os.path.realpath(root)) in entered:
            folders.clear()
            continue
        entered.add(real)
        found.append((root, sorted(name for name in files if not is_hidden(name))))
    return sorted(found)


def load_class_folders(recipe: DataRecipe, media: Media, inputs: Callable[[Sequence[Path]], Inputs]) -> Loaded:
    """Load the directory data.path: its split directories where it has any, else itself as the training split.

    Args:
        inputs: function from a list of paths to the inputs in these files.
    """
    root = required_path(recipe, "a directory with one directory per class, or per split with the classes below")
    if not root.is_dir():
        raise FileNotFoundError(f"data.path {root} is no directory")
    named = {name: root / name for name in recipe.splits.values() if (root / name).is_dir()}
    directories = choose_splits(recipe, {d.name: d for d in class_directories(root)} | named)
    return in_files(root.name, load_folder(directories or {"train": root}, media), inputs)


def load_folder(directories: dict[str, Path], media: Media) -> LabelledFiles:
    """Return class names, and per split the files at any depth below their class's directory, with their labels.

    Args:
        directories: {split: directory with one directory per class}. The classes are the directories of the training
            split, in alphabetical order; what `is_hidden` is none.

    Raises:
        FileNotFoundError: a split, or a class of the training split, has no files.
        ValueError: another split has a class that training lacks.
    """
    class_names = [d.name for d in class_directories(directories["train"])]
    if not class_names:
        raise FileNotFoundError(
            f"{directories['train']} has no directories; each class needs one, with its {media.noun}s"
        )
    files = {kind: _list_files(directory, class_names, media) for kind, directory in directories.items()}
    for kind, (_, labels) in files.items():
        _check_classes(directories[kind], class_names, labels, media, every_class=kind == "train")
    return class_names, files


def _list_files(directory: Path, class_names: Sequence[str], media: Media) -> tuple[Sequence[Path], np.ndarray]:
    unknown = sorted({d.name for d in class_directories(directory)} - set(class_names))
    if unknown:
        raise ValueError(f"{directory} has classes that the training {media.noun}s lack: {', '.join(unknown)}")
    found, counts, others = [], [], []
    for name in class_names:
        kept = list(_matching(visible_names(directory / name), media, others))
        found += kept
        counts.append(sum(len(names) for _, names in kept))
    report_left_out(directory, others, media)
    return FileList(found), np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _matching(
    folders: list[tuple[str, list[str]]], media: Media, others: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield folders with the names of their files of this kind, and add those of another kind to `others`."""
    for folder, names in folders:
        kept = [name for name in names if media.matches(name)]
        if len(kept) < len(names):
            others += [name for name in names if not media.matches(name)]
        yield folder, kept


def report_left_out(directory: Path, names: Sequence[str], media: Media) -> None:
    """Log a warning with the number of files that are not read because of their endings, by ending."""
    if names:
        endings = (os.path.splitext(name)[1].lower() or "no ending" for name in names)
        listed = ", ".join(f"{count:,} {ending}" for ending, count in Counter(endings).most_common(_NAMED_ENDINGS))
        logger.warning(
            "%s: %d files are left out, since %ss end in %s: %s",
            directory,
            len(names),
            media.noun,
            " ".join(media.endings),
            listed,
        )


def _check_classes(
    directory: Path, class_names: Sequence[str], labels: np.ndarray, media: Media, every_class: bool
) -> None:
    files = f"{media.noun} files ({' '.join(media.endings)})"
    if not len(labels):
        raise FileNotFoundError(f"{directory} has no {files} below its class directories")
    empty = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
    if len(empty) and every_class:
        names = ", ".join(class_names[i] for i in empty.tolist())
        raise FileNotFoundError(f"{directory} has no {files} of {len(empty)} classes: {names}")
