"""Videos that a recipe trains and tests on; their sources are the modules of `sources/`.

An input is what `hf_vits.processing.decoding` reads: a path, or the contents of a file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_vits.processing.decoding import VideoReader

from ..checks import Media, name_of
from ..file_lists import FileInputs
from ..sources import Sources

SOURCES = Sources(f"{__name__}.sources")

_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".ts")


@dataclass(frozen=True)
class StoredVideos:
    """Videos that other inputs contain undecoded, as dicts of "bytes" and "path"."""

    inputs: Any

    def __getitem__(self, index: int) -> str | bytes:
        video = self.inputs[index]
        return video["path"] if video["bytes"] is None else video["bytes"]

    def name_of(self, index: int) -> str:
        """Return how error messages name an input."""
        return name_of(self.inputs, index)


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
