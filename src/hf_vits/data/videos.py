"""Where a recipe's videos come from: folders, tables of files, `datasets`, and moving digits made here.

An input is what `hf_vits.processing.decoding` reads: a path, or the contents of a file.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np

from hf_vits.processing.decoding import VideoReader
from hf_vits.recipe import DataRecipe

from .folders import Media, load_class_folders
from .splits import Source, Split, load_dataset_classes
from .synthetic.moving_digits import moving_digits
from .tables import ClassNames, load_class_table

Loaded = tuple[str, ClassNames, dict[str, Split]]

_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".ts")


@dataclass(frozen=True)
class FileVideos:
    """Videos in files."""

    paths: Sequence[Path]

    def __getitem__(self, index: int) -> Path:
        return self.paths[index]


@dataclass(frozen=True)
class ColumnVideos:
    """Videos in a column of a `datasets` dataset that does not decode them."""

    dataset: datasets.Dataset
    column: str

    def __getitem__(self, index: int) -> str | bytes:
        video = self.dataset[index][self.column]
        return video["path"] if video["bytes"] is None else video["bytes"]


def video_problem(path: Path) -> str | None:
    """Why a video cannot be read up to its last frame, or None if it can."""
    try:
        with VideoReader(path) as video:
            video.read([0, video.info.num_frames - 1])
    except (OSError, ValueError) as error:
        return str(error)
    return None


VIDEOS = Media("video", _ENDINGS, video_problem)


def _folder(recipe: DataRecipe) -> Loaded:
    return Path(recipe.path).name, *_in_files(load_class_folders(recipe, VIDEOS))


def _table(recipe: DataRecipe) -> Loaded:
    return Path(recipe.path).stem, *_in_files(load_class_table(recipe, VIDEOS, "video"))


def _in_files(
    loaded: tuple[ClassNames, dict[str, tuple[list[Path], np.ndarray]]],
) -> tuple[ClassNames, dict[str, Split]]:
    class_names, files = loaded
    return class_names, {kind: Split(FileVideos(paths), labels) for kind, (paths, labels) in files.items()}


def _datasets(recipe: DataRecipe) -> Loaded:
    name, class_names, splits = load_dataset_classes(recipe, datasets.Video)
    return name, class_names, {kind: Split(_undecoded(split.inputs), split.labels) for kind, split in splits.items()}


def _undecoded(videos) -> ColumnVideos:
    """As they are stored: `datasets` would open them with torchcodec, which not everybody has."""
    dataset = videos.dataset.select_columns([videos.column])
    return ColumnVideos(dataset.cast_column(videos.column, datasets.Video(decode=False)), videos.column)


def _moving_digits(recipe: DataRecipe) -> Loaded:
    table = moving_digits(recipe.path and Path(recipe.path))
    listed = dataclasses.replace(recipe, path=str(table), columns={"label": "direction"} | recipe.columns)
    whole = VIDEOS._replace(problem=lambda path: None)  # written here, or not at all
    return "moving digits", *_in_files(load_class_table(listed, whole, "video"))


SOURCES: dict[str, Source] = {
    "folder": _folder,
    "csv": _table,
    "jsonl": _table,
    "datasets": _datasets,
    "moving_digits": _moving_digits,
}
