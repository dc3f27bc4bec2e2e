"""Time to read a clip of a video: our reader, beside transformers' reader and decoding of the whole video.

    python -m benchmarks.decoding [--keyframes N] [--work WORK] [--json FILE] [--seconds S]

The video is similar to those of Kinetics: ten seconds at 30 frames per second, 256 x 340 pixels, H.264; a window that
moves over a photograph. A step reads a clip of 16 frames, 4 apart, at changing positions, with one thread, as in a
worker of a `DataLoader`. A row per distance of keyframes and per kind of work:

    keyframes                  frames from one keyframe to the next
    work                       "frames": decode to RGB; "clip": also resize, crop and normalise as MViT's original does
    ours_ms, peers_ms          median milliseconds per clip, of the others {name: milliseconds}
    ratio, ratio_quartiles     our time divided by the fastest other's, and the quartiles of this over the rounds
    rounds                     number of rounds
    frames_per_second          frames that our reader returns per second
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_image
from transformers.video_utils import read_video_pyav

from hf_vits.processing.decoding import read_frames
from hf_vits.processing.sampling import sample_indices
from hf_vits.processing.video import VitsVideoProcessor

from . import commands
from .rounds import interleave, summarize
from .steps import Step

KEYFRAMES = (12, 250)
WORKS = ("frames", "clip")
NUM_FRAMES, SAMPLING_RATE, FPS = 16, 4, 30
LENGTH = 10 * FPS
HEIGHT, WIDTH = 256, 340
PLACES = 16  # clips that the steps read in turn


def walk(path: Path, keyframes: int) -> None:
    """Write the video, with a keyframe every `keyframes` frames."""
    photograph = load_sample_image("china.jpg")
    room = np.array(photograph.shape[:2]) - (HEIGHT, WIDTH)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"sc_threshold": "0"})
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = HEIGHT, WIDTH, "yuv420p", keyframes
        for index in range(LENGTH):
            top, left = (room * (0.5 + 0.5 * np.sin(index / np.array([41, 67])))).astype(int)
            picture = np.ascontiguousarray(photograph[top : top + HEIGHT, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def ours(path: Path, indices: np.ndarray) -> np.ndarray:
    return read_frames(path, indices)


def transformers(path: Path, indices: np.ndarray) -> np.ndarray:
    return read_video_pyav(str(path), lambda metadata: indices)[0]


def whole(path: Path, indices: np.ndarray) -> np.ndarray:
    """Decode all frames to RGB, then select."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])[indices]


READERS = {"ours": ours, "transformers": transformers, "whole video": whole}


def make_step(reader: Callable[[Path, np.ndarray], np.ndarray], path: Path, work: str) -> Step:
    """Return a function that reads the next clip and, for the work "clip", prepares it."""
    places = itertools.cycle(sample_indices(LENGTH, FPS, NUM_FRAMES, SAMPLING_RATE, num_clips=PLACES))
    processor = VitsVideoProcessor(num_frames=NUM_FRAMES)

    def step() -> None:
        frames = reader(path, next(places))
        if work == "clip":
            processor(frames, return_tensors="pt")

    return step


def run(arguments: argparse.Namespace, console: Console) -> list[dict]:
    """Measure all rows, in one thread."""
    torch.set_num_threads(1)

    def measure(case, note) -> dict:
        keyframes, work = case
        path = Path(folder, f"{keyframes}.mp4")
        if not path.exists():
            note("writing the video")
            walk(path, keyframes)
        note("rounds")
        steps = {name: make_step(reader, path, work) for name, reader in READERS.items()}
        measured = summarize(interleave(steps, arguments.seconds))
        throughput = {"frames_per_second": 1e3 * NUM_FRAMES / measured["ours_ms"]}
        return {"keyframes": keyframes, "work": work} | measured | throughput

    cases = list(itertools.product(arguments.keyframes or KEYFRAMES, arguments.work or WORKS))
    with tempfile.TemporaryDirectory() as folder:
        return commands.measure_all(
            cases, measure, lambda case: "keyframes {}, {}".format(*case), arguments.json, console
        )


def table(rows: list[dict]) -> Table:
    """Return a table of milliseconds per clip and reader."""
    peers = [name for name in READERS if name != "ours"]
    columns = ("keyframes", "work", "ours", *peers, "ratio", "quartiles", "rounds", "frames/s")
    result = commands.make_table(f"one thread: median ms per clip of {NUM_FRAMES} frames", (), columns)
    for row in rows:
        times = (f"{ms:.1f}" for ms in (row["ours_ms"], *(row["peers_ms"][peer] for peer in peers)))
        speed = f"{row['frames_per_second']:.0f}"
        result.add_row(str(row["keyframes"]), row["work"], *times, *commands.ratio_cells(row), speed)
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = commands.make_parser("decoding", __doc__)
    parser.add_argument("--keyframes", type=int, action="append", metavar="N", help="repeatable; default: 12 and 250")
    parser.add_argument("--work", choices=WORKS, action="append", help="repeatable; default: all")
    commands.add_json(parser)
    parser.add_argument("--seconds", type=float, default=20, help="of timing per row (default: %(default)s)")
    console = Console()
    commands.show(table(run(parser.parse_args(arguments), console)), console)


if __name__ == "__main__":
    main()
