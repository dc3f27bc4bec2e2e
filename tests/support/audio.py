"""Waveforms and audio files for tests."""

from pathlib import Path

import numpy as np
import soundfile


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.RandomState(seed).standard_normal(samples) * 0.1).astype(np.float32)


def tone(seconds: float, sampling_rate: int, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sampling_rate)) / sampling_rate)).astype(
        "f4"
    )


def write(path: Path, waveform: np.ndarray, sampling_rate: int, subtype: str | None = None) -> Path:
    """A file of the format that its name says; `waveform` (samples,) or (channels, samples)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform.T, sampling_rate, subtype=subtype)
    return path
