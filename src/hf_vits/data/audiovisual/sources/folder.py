"""A directory of video files at any depth, below one directory per split if there are any.

The captions of a video are the lines of the text file beside it with its name, such as clip.txt for clip.mp4.
"""

from pathlib import Path

import numpy as np

from hf_vits.data.folders import class_directories, visible_files
from hf_vits.data.sources import required_path
from hf_vits.data.splits import Loaded, Split, choose_splits
from hf_vits.recipe import DataRecipe

from ...videos import VIDEOS
from .. import CaptionedVideo, CaptionedVideos

READS = ("path", "splits", "skip_unreadable", "captions")


def load(recipe: DataRecipe) -> Loaded:
    """Load the files below data.path."""
    root = required_path(recipe, "a directory of videos, or with a directory of them for each split")
    if not root.is_dir():
        raise FileNotFoundError(f"data.path {root} is no directory")
    directories = choose_splits(recipe, {path.name: path for path in class_directories(root)}) or {"train": root}
    files = {kind: videos_below(directory) for kind, directory in directories.items()}
    splits = {}
    for kind, paths in files.items():
        videos = [CaptionedVideo(path, captions_of(path)) for path in paths]
        splits[kind] = Split(CaptionedVideos(videos), np.full(len(videos), -1))
    return Loaded(root.name, (), splits)


def videos_below(directory: Path) -> list[Path]:
    """Return the video files at any depth; FileNotFoundError if there are none."""
    found = [path for path in visible_files(directory) if path.name.lower().endswith(VIDEOS.endings)]
    if not found:
        raise FileNotFoundError(f"{directory} has no video files ({' '.join(VIDEOS.endings)})")
    return found


def captions_of(path: Path) -> tuple[str, ...]:
    """Return the lines of the text file beside a video that are not blank."""
    file = path.with_suffix(".txt")
    lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
    return tuple(line.strip() for line in lines if line.strip())
