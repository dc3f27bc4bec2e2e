"""Folders of files, one directory per class; every file is checked first, so that none ends a run halfway."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from hf_vits.recipe import DataRecipe

from .sources import required_path
from .splits import Inputs, LabelledFiles, Loaded, choose_splits, in_files

logger = logging.getLogger(__name__)

_NAMED_FILES = 10

# What every source `folder` reads of a recipe's data section.
READS = ("path", "splits", "skip_unreadable")


class Media(NamedTuple):
    """A kind of files.

    Attributes:
        noun: name of one input: image, video or recording.
        endings: endings of file names, each with its dot, in lower case.
        problem: function from a path to why the file cannot be decoded, or to None if it can.
    """

    noun: str
    endings: tuple[str, ...]
    problem: Callable[[Path], str | None]


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
    found, entered = [], set()
    for root, folders, files in os.walk(directory, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        if (real := os.path.realpath(root)) in entered:
            folders.clear()
            continue
        entered.add(real)
        found += [(root, name) for name in files if not is_hidden(name)]
    return [Path(root, name) for root, name in sorted(found)]


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
    return in_files(root.name, load_folder(directories or {"train": root}, media, recipe.skip_unreadable), inputs)


def load_folder(directories: dict[str, Path], media: Media, skip_unreadable: bool) -> LabelledFiles:
    """Return class names, and per split the files at any depth below their class's directory, with their labels.

    Every file is decoded once, under a progress bar.

    Args:
        directories: {split: directory with one directory per class}. The classes are the directories of the training
            split, in alphabetical order; what `is_hidden` is none.

    Raises:
        FileNotFoundError: a split, or a class of the training split, has no files.
        ValueError: another split has a class that training lacks.
        OSError: files cannot be decoded, unless `skip_unreadable`.
    """
    class_names = [d.name for d in class_directories(directories["train"])]
    if not class_names:
        raise FileNotFoundError(
            f"{directories['train']} has no directories; each class needs one, with its {media.noun}s"
        )
    files = {kind: _list_files(directory, class_names, media) for kind, directory in directories.items()}
    unreadable = find_unreadable([path for paths, _ in files.values() for path in paths], media)
    if unreadable:
        report_unreadable(unreadable, media, skip_unreadable)
        files = {kind: _without(*found, set(unreadable)) for kind, found in files.items()}
    for kind, (_, labels) in files.items():
        _check_classes(directories[kind], class_names, labels, media, every_class=kind == "train")
    return class_names, files


def _list_files(directory: Path, class_names: Sequence[str], media: Media) -> tuple[list[Path], np.ndarray]:
    unknown = sorted({d.name for d in class_directories(directory)} - set(class_names))
    if unknown:
        raise ValueError(f"{directory} has classes that the training {media.noun}s lack: {', '.join(unknown)}")
    every = [(path, label) for label, name in enumerate(class_names) for path in visible_files(directory / name)]
    found = [(path, label) for path, label in every if path.name.lower().endswith(media.endings)]
    report_left_out(directory, [path for path, _ in every if not path.name.lower().endswith(media.endings)], media)
    return [path for path, _ in found], np.asarray([label for _, label in found], dtype=np.int64)


def report_left_out(directory: Path, paths: Sequence[Path], media: Media) -> None:
    """Log a warning with the number of files that are not read because of their endings, by ending."""
    if paths:
        counts = Counter(path.suffix.lower() or "no ending" for path in paths).most_common(_NAMED_FILES)
        listed = ", ".join(f"{count:,} {ending}" for ending, count in counts)
        logger.warning(
            "%s: %d files are left out, since %ss end in %s: %s",
            directory,
            len(paths),
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
    empty = sorted(set(range(len(class_names))) - set(labels.tolist()))
    if empty and every_class:
        names = ", ".join(class_names[i] for i in empty)
        raise FileNotFoundError(f"{directory} has no {files} of {len(empty)} classes: {names}")


def find_unreadable(paths: Sequence[Path], media: Media) -> dict[Path, str]:
    """Decode files under a progress bar; return {file: why it cannot be decoded} of those that cannot."""
    with ThreadPoolExecutor() as pool:
        checked = pool.map(media.problem, paths)
        problems = list(tqdm(checked, total=len(paths), desc=f"Checking {media.noun}s", unit=media.noun))
    return {path: problem for path, problem in zip(paths, problems, strict=True) if problem is not None}


def report_unreadable(unreadable: dict[Path, str], media: Media, skip: bool) -> None:
    """Log a warning that names the unreadable files, or raise an OSError that does unless `skip`."""
    listed = "\n".join(f"  {path}: {problem}" for path, problem in list(unreadable.items())[:_NAMED_FILES])
    more = f"\n  and {len(unreadable) - _NAMED_FILES} more" if len(unreadable) > _NAMED_FILES else ""
    found = f"{len(unreadable)} {media.noun} file(s) cannot be read:\n{listed}{more}"
    if not skip:
        raise OSError(f"{found}\nRemove or repair them, or set data.skip_unreadable: true to train without them.")
    logger.warning("skipping: %s", found)


def _without(paths: Sequence[Path], labels: np.ndarray, excluded: set[Path]) -> tuple[list[Path], np.ndarray]:
    keep = [i for i, path in enumerate(paths) if path not in excluded]
    return [paths[i] for i in keep], labels[keep]
