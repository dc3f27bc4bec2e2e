"""Image folders: a directory per class, scanned before training so that no bad file ends a run halfway."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset
from tqdm import tqdm

logger = logging.getLogger(__name__)

_NAMED_FILES = 10


def load_folder(
    directories: dict[str, Path], skip_unreadable: bool
) -> tuple[list[str], dict[str, tuple[list[Path], np.ndarray]]]:
    """Class names, and per split the image files, below their class's directory at any depth, with labels.

    Classes are the directories in `directories["train"]`, in alphabetical order. Every file is decoded once.

    Raises:
        FileNotFoundError: a split or a class without images.
        ValueError: a class in another split that training does not have.
        OSError: files that cannot be decoded, unless `skip_unreadable`.
    """
    class_names = sorted(d.name for d in directories["train"].iterdir() if d.is_dir())
    if not class_names:
        raise FileNotFoundError(f"{directories['train']} has no directories; each class needs one, with its images")
    files = {kind: _list_images(directory, class_names) for kind, directory in directories.items()}
    unreadable = find_unreadable([path for paths, _ in files.values() for path in paths])
    if unreadable:
        _report(unreadable, skip_unreadable)
        files = {kind: _without(*found, set(unreadable)) for kind, found in files.items()}
    for kind, (_, labels) in files.items():
        _check_classes(directories[kind], class_names, labels, every_class=kind == "train")
    return class_names, files


def _list_images(directory: Path, class_names: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    unknown = sorted({d.name for d in directory.iterdir() if d.is_dir()} - set(class_names))
    if unknown:
        raise ValueError(f"{directory} has classes that the training images lack: {', '.join(unknown)}")
    class_index = {name: label for label, name in enumerate(class_names)}
    samples = make_dataset(str(directory), class_index, extensions=IMG_EXTENSIONS, allow_empty=True)
    return [Path(path) for path, _ in samples], np.asarray([label for _, label in samples], dtype=np.int64)


def _check_classes(directory: Path, class_names: Sequence[str], labels: np.ndarray, every_class: bool) -> None:
    endings = " ".join(IMG_EXTENSIONS)
    if not len(labels):
        raise FileNotFoundError(f"{directory} has no image files ({endings}) below its class directories")
    empty = sorted(set(range(len(class_names))) - set(labels.tolist()))
    if empty and every_class:
        names = ", ".join(class_names[i] for i in empty)
        raise FileNotFoundError(f"{directory} has no image files ({endings}) of {len(empty)} classes: {names}")


def find_unreadable(paths: Sequence[Path]) -> dict[Path, str]:
    """{file: why it cannot be decoded} of those that cannot, under a progress bar."""
    with ThreadPoolExecutor() as pool:
        problems = list(tqdm(pool.map(_problem, paths), total=len(paths), desc="Checking images", unit="image"))
    return {path: problem for path, problem in zip(paths, problems, strict=True) if problem is not None}


def _problem(path: Path) -> str | None:
    """Why the image cannot be decoded, or None if it can."""
    try:
        with Image.open(path) as image:
            # A JPEG decodes several times faster at an eighth of its size, and still reads every byte.
            image.draft("RGB", (1, 1))
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)
    return None


def _report(unreadable: dict[Path, str], skip: bool) -> None:
    """Name the unreadable files in a warning if they are to be skipped, in an OSError if not."""
    listed = "\n".join(f"  {path}: {problem}" for path, problem in list(unreadable.items())[:_NAMED_FILES])
    more = f"\n  and {len(unreadable) - _NAMED_FILES} more" if len(unreadable) > _NAMED_FILES else ""
    found = f"{len(unreadable)} image file(s) cannot be read:\n{listed}{more}"
    if not skip:
        raise OSError(f"{found}\nRemove or repair them, or set data.skip_unreadable: true to train without them.")
    logger.warning("skipping: %s", found)


def _without(paths: Sequence[Path], labels: np.ndarray, excluded: set[Path]) -> tuple[list[Path], np.ndarray]:
    keep = [i for i, path in enumerate(paths) if path not in excluded]
    return [paths[i] for i in keep], labels[keep]
