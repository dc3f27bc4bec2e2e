"""What a user hands over as audio, turned into mono waveforms of one sampling rate, or an error saying why not."""

import io
import os
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch

from .resample import resample

MOST_CHANNELS = 32
# What libsndfile notes of a WAV, AIFF or AU file that ends before its samples do, in bytes.
_CUT_OFF = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")
# From here on, the size that a header announces is what programs write that do not know it, as into a pipe.
_UNKNOWN_SIZE = 2**31 - 2**16


def load_audio(path: str | os.PathLike | bytes, sampling_rate: int) -> torch.Tensor:
    """The waveform (samples,) of an audio file, float32 from -1 to 1, mono and at `sampling_rate` Hz.

    path: a file of any format that libsndfile reads (WAV, FLAC, OGG, MP3 and others), or its content as bytes.
    Channels are averaged.

    Raises OSError for a file that cannot be read or decoded, or is cut off; ValueError for one without samples or with
    samples that are not finite; ImportError where soundfile is missing.
    """
    name = "the bytes given" if isinstance(path, bytes) else os.fspath(path)
    samples, rate = _decode(path, name)
    try:
        return resample(to_mono(samples.T), rate, sampling_rate)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _decode(path: str | os.PathLike | bytes, name: str) -> tuple[np.ndarray, int]:
    """Samples (time, channels) of a file and their rate."""
    try:
        import soundfile
    except ImportError as error:
        raise ImportError("reading audio files needs soundfile: pip install 'hf_vits[audio]'") from error
    if not isinstance(path, bytes) and not os.path.isfile(path):
        raise FileNotFoundError(f"there is no audio file {name}")
    try:
        with soundfile.SoundFile(io.BytesIO(path) if isinstance(path, bytes) else path) as file:
            expected, rate, cut_off = file.frames, file.samplerate, bytes_missing(file)
            samples = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise OSError(f"{name} cannot be decoded as audio: {error.error_string}") from error
    if cut_off or len(samples) < expected:
        told = f"{cut_off} bytes of samples are missing" if cut_off else f"{expected} samples are announced"
        raise OSError(
            f"{name} is truncated: {told}, {len(samples)} samples are there; get the whole file, or save what is "
            "there with `ffmpeg -i broken.wav repaired.wav`"
        )
    return samples, rate


def bytes_missing(file: Any) -> int:
    """How much earlier an open `soundfile.SoundFile` ends than its header says, which libsndfile itself lets pass."""
    found = _CUT_OFF.search(file.extra_info)
    announced, held = map(int, found.groups()) if found else (0, 0)
    return max(announced - held, 0) if announced < _UNKNOWN_SIZE else 0


def to_waveforms(audio: Any, sampling_rate: int, from_rate: int | None = None) -> list[torch.Tensor]:
    """Clips as mono waveforms (samples,) of `sampling_rate` Hz.

    audio: a clip or a list of clips. A clip is an array, tensor or list of numbers (samples,), or of several channels
    (channels, samples) inside a list; a path or an audio file's bytes; a dict with "array" and "sampling_rate", or
    with "bytes" or "path", as `datasets` has them; or an object with `get_all_samples`, as torchcodec's decoders. An
    array of two axes by itself is a batch (clips, samples), one of three (clips, channels, samples).
    from_rate: rate of clips that do not say theirs; `sampling_rate` by default.

    Raises TypeError, ValueError and OSError that number the clip at fault.
    """
    is_batch = isinstance(audio, (list, tuple)) and not (audio and isinstance(audio[0], Real))
    is_batch = is_batch or getattr(audio, "ndim", 1) > 1
    clips = list(audio) if is_batch else [audio]
    if not clips:
        raise ValueError("expected at least one clip, got an empty batch")
    from_rate = sampling_rate if from_rate is None else from_rate
    waveforms = []
    for number, clip in enumerate(clips):
        try:
            waveforms.append(_waveform(clip, sampling_rate, from_rate))
        except (TypeError, ValueError, OSError) as error:
            if is_batch:
                error.add_note(f"(clip {number} of the batch)")
            raise
    return waveforms


def _waveform(clip: Any, sampling_rate: int, from_rate: int) -> torch.Tensor:
    if isinstance(clip, (str, os.PathLike, bytes)):
        return load_audio(clip, sampling_rate)
    if isinstance(clip, Mapping):
        if clip.get("array") is not None:
            if not clip.get("sampling_rate"):
                raise ValueError('a dict with an "array" must have its "sampling_rate" too')
            return _waveform(clip["array"], sampling_rate, clip["sampling_rate"])
        source = clip.get("bytes") or clip.get("path")
        if not source:
            raise ValueError(f'a dict must have "array" and "sampling_rate", "bytes" or "path", got {list(clip)}')
        return load_audio(source, sampling_rate)
    if hasattr(clip, "get_all_samples"):
        samples = clip.get_all_samples()
        return resample(to_mono(samples.data), samples.sample_rate, sampling_rate)
    return resample(to_mono(clip), from_rate, sampling_rate)


def to_mono(samples: Any) -> torch.Tensor:
    """The waveform (samples,), float32, of an array, tensor or list of shape (samples,) or (channels, samples).

    Channels are averaged; integers are divided by the range of their type (of 8 bits unsigned, the middle is 0).
    """
    samples = _tensor(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[0] > MOST_CHANNELS):
        raise ValueError(
            f"expected a waveform of shape (samples,) or (channels, samples), got {tuple(samples.shape)}; transpose "
            "it if its channels come last"
        )
    if samples.numel() == 0:
        raise ValueError(f"expected a waveform of at least one sample, got shape {tuple(samples.shape)}")
    if samples.ndim == 2:
        samples = samples.mean(dim=0)
    low, high = (bound.item() for bound in samples.detach().aminmax())  # either is NaN if any sample is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("the waveform has NaN or infinite samples; clean it first, for example with torch.nan_to_num")
    return samples


def _tensor(samples: Any) -> torch.Tensor:
    if isinstance(samples, (list, tuple)):
        try:
            samples = np.asarray(samples, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"expected numbers or clips of equal length, got a list that is neither: {error}"
            ) from None
    if isinstance(samples, np.ndarray):
        if samples.dtype.kind not in "iuf" or samples.dtype.itemsize > 8:
            raise TypeError(f"expected samples as integers or floats, got a numpy array of dtype {samples.dtype}")
        samples = torch.from_numpy(np.require(samples, samples.dtype.newbyteorder("="), ["C", "W"]))
    if not isinstance(samples, torch.Tensor):
        raise TypeError(
            "expected a waveform as numpy array, torch tensor or list of numbers, a path, an audio file's bytes, or a "
            f"dict with them, got {type(samples).__name__}"
        )
    if samples.is_floating_point():
        return samples.float()
    if samples.dtype == torch.bool or samples.is_complex():
        raise TypeError(f"expected samples as integers or floats, got {samples.dtype}")
    if samples.dtype == torch.uint8:
        return (samples.float() - 128) / 128
    return samples.float() / (float(torch.iinfo(samples.dtype).max) + 1)
