"""Clips of videos per second and worker: ours beside transformers' reader and beside decoding whole videos.

    python -m benchmarks.decoding [--keyframes N] [--work WORK] [--json FILE] [--seconds S]

The video is like one of Kinetics: ten seconds at 30 frames per second, 256 x 340 pixels, H.264; a walk over a
photograph. Every step reads one clip of 16 frames, 4 apart, each time from another place, with one thread, as a worker
of a `DataLoader` does. A row per distance of keyframes and per work:

    keyframes                  frames from one keyframe to the next
    work                       "frames": decode to RGB; "clip": also resize, crop and normalise as MViT's original does
    ours_ms, peers_ms          median milliseconds per clip, of the others {name: milliseconds}
    ratio, ratio_quartiles     ours over the fastest other's, and its quartiles over the rounds
    rounds                     how many rounds there were
    frames_per_second          of ours: frames of clips, not frames decoded on the way to them
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
from tqdm import tqdm
from transformers.video_utils import read_video_pyav

from hf_vits.processing.decoding import read_frames
from hf_vits.processing.sampling import sample_indices
from hf_vits.processing.video import VitsVideoProcessor

from .rounds import interleave, summarize
from .speed import write
from .steps import Step

KEYFRAMES = (12, 250)
WORKS = ("frames", "clip")
NUM_FRAMES, SAMPLING_RATE, FPS = 16, 4, 30
LENGTH = 10 * FPS
HEIGHT, WIDTH = 256, 340
PLACES = 16  # clips that the steps go around


def walk(path: Path, keyframes: int) -> None:
    """Write the video."""
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
    """Decode all frames to RGB, then choose."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])[indices]


READERS = {"ours": ours, "transformers": transformers, "whole video": whole}


def make_step(reader: Callable[[Path, np.ndarray], np.ndarray], path: Path, work: str) -> Step:
    """Reads the next of the clips, and prepares it where that is part of the work."""
    places = itertools.cycle(sample_indices(LENGTH, FPS, NUM_FRAMES, SAMPLING_RATE, num_clips=PLACES))
    processor = VitsVideoProcessor(num_frames=NUM_FRAMES)

    def step() -> None:
        frames = reader(path, next(places))
        if work == "clip":
            processor(frames, return_tensors="pt")

    return step


def run(arguments: argparse.Namespace) -> list[dict]:
    """Measure all rows, with a progress bar, and keep the JSON file up to date."""
    torch.set_num_threads(1)
    rows = []
    todo = list(itertools.product(arguments.keyframes or KEYFRAMES, arguments.work or WORKS))
    with tempfile.TemporaryDirectory() as folder:
        for keyframes, work in tqdm(todo):
            path = Path(folder, f"{keyframes}.mp4")
            if not path.exists():
                walk(path, keyframes)
            steps = {name: make_step(reader, path, work) for name, reader in READERS.items()}
            measured = summarize(interleave(steps, arguments.seconds))
            throughput = {"frames_per_second": 1e3 * NUM_FRAMES / measured["ours_ms"]}
            rows.append({"keyframes": keyframes, "work": work} | measured | throughput)
            if arguments.json:
                write(rows, arguments.json)
    return rows


def table(rows: list[dict]) -> Table:
    result = Table(title=f"one thread: median ms per clip of {NUM_FRAMES} frames")
    peers = [name for name in READERS if name != "ours"]
    for title in ("keyframes", "work", "ours", *peers, "ratio", "quartiles", "rounds", "frames/s"):
        result.add_column(title, justify="right")
    for row in rows:
        times = (f"{row['peers_ms'][peer]:.1f}" for peer in peers)
        low, high = row["ratio_quartiles"]
        measures = (f"{row['ratio']:.3f}", f"{low:.3f} {high:.3f}", str(row["rounds"]))
        speed = f"{row['frames_per_second']:.0f}"
        result.add_row(str(row["keyframes"]), row["work"], f"{row['ours_ms']:.1f}", *times, *measures, speed)
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding", description=__doc__.splitlines()[0])
    parser.add_argument("--keyframes", type=int, action="append", metavar="N", help="repeatable; default: 12 and 250")
    parser.add_argument("--work", choices=WORKS, action="append", help="repeatable; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file as they come")
    parser.add_argument("--seconds", type=float, default=20, help="of timing per row (default: %(default)s)")
    console = Console()
    rows = run(parser.parse_args(arguments))
    # A file or a pipe has no width of its own.
    (console if console.is_terminal else Console(width=160)).print(table(rows))


if __name__ == "__main__":
    main()
