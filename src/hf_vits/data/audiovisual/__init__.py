"""Videos with sound and captions that a recipe trains and tests on; their sources are the modules of `sources/`.

An input is a `CaptionedVideo`. Its label is a class, which only measures what was learned, or -1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from ..checks import Media
from ..sources import Sources
from ..videos import VIDEOS

SOURCES = Sources(f"{__name__}.sources")


class CaptionedVideo(NamedTuple):
    """A video file, which may have sound, and its captions, of which there may be none."""

    path: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionedVideos:
    """Videos in files with their captions."""

    videos: Sequence[CaptionedVideo]
    media: ClassVar[Media] = VIDEOS

    def __getitem__(self, index: int) -> CaptionedVideo:
        return self.videos[index]

    @property
    def paths(self) -> list[Path]:
        """Return the files of all videos."""
        return [video.path for video in self.videos]

    def name_of(self, index: int) -> str:
        """Return the path of a video."""
        return str(self.videos[index].path)
