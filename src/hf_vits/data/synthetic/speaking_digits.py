"""Clips of moving digits with a sound track that speaks the digit and a caption that names it, every digit in turn.

Scans, voices and movements of validation and test are not in training. Of ten training clips, one has no sound and
another no caption.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import cached_assets_path
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.datasets import load_digits
from tqdm import tqdm

from hf_vits.folders import temporary_folder
from hf_vits.recipe import SpeechRecipe

from .espeak import Espeak
from .moving_digits import publish, write_video
from .speech import DIGITS, SPLITS, recipe_key, say, utterance

LIST = "clips.csv"
FRAME_RATE = 10

_FRAME_SIDE, _DIGIT_SIDE = 32, 20
_CAPTIONS = ("{}", "digit {}", "the digit {}", "this is {}", "the number {} moves", "here comes {}")
_FRACTIONS = {"train": (0.0, 0.8), "validation": (0.8, 0.88), "test": (0.88, 1.0)}  # of the scans
# Incremented whenever the clips of a recipe change.
_VERSION = 1
_CHUNK = 100


def speaking_digits(recipe: SpeechRecipe, folder: Path | None = None) -> Path:
    """Return the path of a CSV table with columns path, text, label and split, written with its clips if missing.

    The same recipe gives the same clips. They are written completely or not at all, also by several processes at once.

    Args:
        recipe: numbers of clips, their length, voices, noise and sampling rate.
        folder: directory for a folder with the clips; by default among the assets of Hugging Face's cache.

    Raises:
        ImportError: the package espeakng-loader or PyAV is missing.
    """
    folder = folder or cached_assets_path("hf_vits", "videos", "speaking_digits")
    name = recipe_key("speaking_digits", "all", recipe, version=_VERSION)
    target = folder / name
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder, f".{name}-") as partial:
            _write(partial, recipe)
            publish(partial, target)
    return target / LIST


def _write(folder: Path, recipe: SpeechRecipe) -> None:
    digits: Any = load_digits()
    order = np.random.default_rng(recipe.seed).permutation(len(digits.target))
    chunks = []
    for split in SPLITS:
        first, last = (int(fraction * len(order)) for fraction in _FRACTIONS[split])
        own, count = order[first:last], getattr(recipe, split)
        scans = [own[digits.target[own] == digit] for digit in range(len(DIGITS))]
        numbered = [(number, in_turn(scans, number)) for number in range(count)]
        chunks += [(split, numbered[start : start + _CHUNK]) for start in range(0, count, _CHUNK)]
    total = sum(len(chunk) for _, chunk in chunks)
    jobs = min(effective_n_jobs(-1), -(-total // _CHUNK))
    work = (delayed(_write_some)(folder, split, numbered, recipe) for split, numbered in chunks)
    written: Any = Parallel(n_jobs=jobs, return_as="generator")(work)
    rows = []
    with tqdm(total=total, desc="Writing speaking digits", unit="clip") as bar:
        for some in written:
            rows += some
            bar.update(len(some))
    with (folder / LIST).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "text", "label", "split"), *rows])


def in_turn(scans: Sequence[np.ndarray], number: int) -> int:
    """Return the scan of the clip of this number: every digit in turn, and of each digit every scan in turn."""
    of_digit = scans[number % len(scans)]
    return int(of_digit[number // len(scans) % len(of_digit)])


def _write_some(folder: Path, split: str, numbered: list[tuple[int, int]], recipe: SpeechRecipe) -> list[tuple]:
    """Write clips of (number, scan), and return their rows of the table."""
    digits: Any = load_digits()
    rows = []
    with Espeak() as voice:
        for number, scan in numbered:
            digit = int(digits.target[scan])
            random = np.random.default_rng((recipe.seed, SPLITS.index(split), number, 1))
            frames = glide(digits.images[scan], round(recipe.seconds * FRAME_RATE), random)
            spoken = utterance(DIGITS[digit], split, number, recipe)
            sound = say(voice, spoken, recipe.sampling_rate, recipe.seconds, recipe.margin)
            caption = random.choice(_CAPTIONS).format(DIGITS[digit])
            is_training = split == "train"
            path = f"{split}{number:05}.mkv"
            has_sound, has_caption = not is_training or number % 10 != 3, not is_training or number % 10 != 7
            write_video(folder / path, frames, FRAME_RATE, sound if has_sound else None, recipe.sampling_rate)
            rows.append((path, caption if has_caption else "", digit, split))
    return rows


def glide(scan: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw frames (count, height, width) of uint8 of a digit that moves and turns back at the edges of the frame.

    Args:
        scan: (8, 8), levels from 0 to 16.
    """
    from PIL import Image

    image = Image.fromarray(np.rint(scan * (255 / 16)).astype(np.uint8))
    digit = np.asarray(image.resize((_DIGIT_SIDE, _DIGIT_SIDE), Image.Resampling.BILINEAR))
    room = _FRAME_SIDE - _DIGIT_SIDE
    axis, sign, start = random.integers(2), random.choice([-1, 1]), random.integers(room + 1, size=2)
    frames = np.zeros((count, _FRAME_SIDE, _FRAME_SIDE), np.uint8)
    for time, frame in enumerate(frames):
        place = start.copy()
        moved = (start[axis] + sign * time) % (2 * room)  # there and back again
        place[axis] = min(moved, 2 * room - moved)
        frame[place[0] : place[0] + _DIGIT_SIDE, place[1] : place[1] + _DIGIT_SIDE] = digit
    return frames


__all__ = ["LIST", "speaking_digits"]
