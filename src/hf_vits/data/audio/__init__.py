"""Recordings that a recipe trains and tests on; their sources are the modules of `sources/`.

An input is a recording in a form that the audio processors take: a path, or a dict with "array" and "sampling_rate"
or with "bytes". Its label is a class (`CLASS_SOURCES`) or a text (`TEXT_SOURCES`).
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hf_vits.processing.waveform import audio_length

from ..checks import Media, name_of
from ..file_lists import FileInputs
from ..sources import Sources
from ..splits import ChosenInputs, Inputs
from ..synthetic import speech

CLASS_SOURCES = Sources(f"{__name__}.sources")
TEXT_SOURCES = Sources(f"{__name__}.sources", "load_texts")


@dataclass(frozen=True)
class SpokenClips:
    """Recordings made with espeak-ng."""

    split: speech.SpokenSplit
    sampling_rate: int

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"array": self.split[index], "sampling_rate": self.sampling_rate}


@dataclass(frozen=True)
class EncodedClips:
    """Recordings that other inputs contain as the content of a file."""

    inputs: Any

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"bytes": self.inputs[index], "path": None}

    def name_of(self, index: int) -> str:
        """Return how error messages name an input."""
        return name_of(self.inputs, index)


def clip_seconds(inputs: Inputs) -> np.ndarray:
    """Return the lengths of recordings in seconds, (recordings,), under a progress bar; unreadable ones have 0."""
    if isinstance(inputs, ChosenInputs):
        return clip_seconds(inputs.inputs)[inputs.indices]
    if isinstance(inputs, SpokenClips):
        return np.diff(inputs.split.ends, prepend=0) / inputs.sampling_rate
    stored: Any = inputs
    count = len(stored.paths if isinstance(inputs, FileClips) else stored.dataset)
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda index: _seconds(inputs[index]), range(count))
        return np.asarray(list(tqdm(read, total=count, desc="Measuring recordings", unit="recording")))


def _seconds(clip: Path | Mapping[str, Any]) -> float:
    if isinstance(clip, Mapping):
        clip = clip["path"] if clip["bytes"] is None else clip["bytes"]
    try:
        samples, rate = audio_length(clip)
    except OSError:
        return 0.0
    return samples / rate


def audio_problem(path: Path) -> str | None:
    """Return why the recording cannot be read from its first to its last sample, None if it can."""
    try:
        audio_length(path)
    except OSError as error:
        return str(error)
    return None


AUDIO = Media("recording", (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au"), audio_problem)


class FileClips(FileInputs):
    """Recordings in files."""

    media = AUDIO
