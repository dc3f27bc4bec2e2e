"""Videos that a recipe trains and tests on; their sources are the modules of `sources/`.

An input is what `hf_vits.processing.decoding` reads: a path, or the contents of a file.
"""

from dataclasses import dataclass
from pathlib import Path

import datasets

from hf_vits.processing.decoding import VideoReader

from ..checks import Media
from ..file_lists import FileInputs
from ..sources import Sources

SOURCES = Sources(f"{__name__}.sources")

_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".ts")


@dataclass(frozen=True)
class ColumnVideos:
    """Videos in a column of a `datasets` dataset that does not decode them."""

    dataset: datasets.Dataset
    column: str

    def __getitem__(self, index: int) -> str | bytes:
        video = self.dataset[index][self.column]
        return video["path"] if video["bytes"] is None else video["bytes"]


def video_problem(path: Path) -> str | None:
    """Return why the video cannot be read up to its last frame, None if it can."""
    try:
        with VideoReader(path) as video:
            video.read([0, video.info.num_frames - 1])
    except (OSError, ValueError) as error:
        return str(error)
    return None


VIDEOS = Media("video", _ENDINGS, video_problem)


class FileVideos(FileInputs):
    """Videos in files."""

    media = VIDEOS
