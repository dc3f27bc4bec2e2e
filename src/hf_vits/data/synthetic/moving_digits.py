"""Videos made from scikit-learn's scanned digits, each moving over a dark frame in one direction.

A digit starts anywhere and re-enters the frame on the opposite side, so no single frame shows the direction: a model
has to follow the digit through time. Each of the 1,797 scans is in one video, so held-out videos show digits that are
not in the training videos.
"""

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import cached_assets_path
from PIL import Image
from sklearn.datasets import load_digits
from tqdm import tqdm

from hf_vits.folders import temporary_folder

# (down, right) per frame.
DIRECTIONS = {"down": (1, 0), "left": (0, -1), "right": (0, 1), "up": (-1, 0)}
LIST = "videos.csv"

_FRAME_SIDE, _DIGIT_SIDE = 32, 16
_FRAME_RATE = 30
_FEWEST_FRAMES, _MOST_FRAMES = 24, 40
_SPEEDS = (1, 2)  # pixels per frame
_BIT_RATE = 400_000  # nearly lossless


def moving_digits(folder: Path | None = None, seed: int = 0, count: int | None = None) -> Path:
    """Return the path of a CSV table with columns path, direction and digit, written with its videos if missing.

    The same seed gives the same videos. They are written completely or not at all, also by several processes at once.

    Args:
        folder: directory for a folder with the videos; by default among the assets of Hugging Face's cache.
        seed: random seed of directions, starts, speeds and lengths.
        count: number of scans to use; by default all.
    """
    folder = folder or cached_assets_path("hf_vits", "videos", "moving_digits")
    name = f"seed{seed}" if count is None else f"seed{seed}-first{count}"
    target = folder / name
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder, f".{name}-") as partial:
            _write(partial, seed, count)
            publish(partial, target)
    return target / LIST


def publish(partial: Path, target: Path) -> None:
    """Rename a finished folder, unless another process has finished first."""
    try:
        os.rename(partial, target)
    except OSError:
        if not target.is_dir():
            raise


def _write(folder: Path, seed: int, count: int | None) -> None:
    digits: Any = load_digits()
    random = np.random.default_rng(seed)
    directions = random.permutation(np.resize(list(DIRECTIONS), len(digits.target)))
    rows = []
    for number in tqdm(range(len(digits.target))[:count], "Writing videos of moving digits", unit="video"):
        frames = _glide(digits.images[number], str(directions[number]), random)
        path = f"{number:04}.mp4"
        write_video(folder / path, frames, _FRAME_RATE)
        rows.append((path, directions[number], digits.target[number]))
    with (folder / LIST).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "direction", "digit"), *rows])


def _glide(scan: np.ndarray, direction: str, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw a moving scan, frame by frame (height, width) of uint8; the scan has 8 x 8 levels from 0 to 16."""
    digit = Image.fromarray(np.rint(scan * (255 / 16)).astype(np.uint8))
    frame = np.zeros((_FRAME_SIDE, _FRAME_SIDE), np.uint8)
    frame[:_DIGIT_SIDE, :_DIGIT_SIDE] = np.asarray(digit.resize((_DIGIT_SIDE, _DIGIT_SIDE), Image.Resampling.BILINEAR))
    start = random.integers(_FRAME_SIDE, size=2)
    step = np.array(DIRECTIONS[direction]) * random.choice(_SPEEDS)
    for time in range(random.integers(_FEWEST_FRAMES, _MOST_FRAMES + 1)):
        yield np.roll(frame, tuple(start + time * step), axis=(0, 1))


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    rate: int,
    sound: np.ndarray | None = None,
    sampling_rate: int = 16_000,
) -> None:
    """Encode grey frames (height, width), or colour frames (height, width, 3), of uint8 as MPEG-4.

    Args:
        rate: frames per second.
        sound: (samples,) of int16, written losslessly; the container must be one that FLAC fits into, such as .mkv.
        sampling_rate: of the sound, in Hz.
    """
    import av

    with av.open(str(path), "w") as container:
        track = None if sound is None else container.add_stream("flac", rate=sampling_rate, layout="mono")
        stream = container.add_stream("mpeg4", rate=rate, bit_rate=_BIT_RATE)
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, format="gray" if frame.ndim == 2 else "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if track is not None and sound is not None:
            samples = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            samples.sample_rate, samples.pts = sampling_rate, 0
            container.mux(track.encode(samples))
            container.mux(track.encode(None))
