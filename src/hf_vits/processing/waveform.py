"""Audio in the forms that users have it, converted to mono waveforms of one sampling rate."""

import io
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .resample import resample

MOST_CHANNELS = 32
# Sampling rates in Hz. Outside of this range a header is wrong, and resampling would take gigabytes.
LOWEST_RATE, HIGHEST_RATE = 100, 1_000_000
# libsndfile's note, in bytes, about a WAV, AIFF or AU file that ends before its samples do.
_CUT_OFF = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")
# Programs that do not know the size of their output, as when writing to a pipe, write this size or a larger one.
_UNKNOWN_SIZE = 2**31 - 2**16
_ZERO_SIZE, _MAXIMAL_SIZE = b"data\0\0\0\0", b"data\xff\xff\xff\xff"  # of a WAV file's samples
_UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's SF_COUNT_MAX
_LOUDEST = 2.0**32  # full scale is 1, or 2^31 for samples of 32 bits; the power of much larger ones overflows
_BLOCK = 2**16  # samples decoded at a time


def load_audio(path: str | os.PathLike | bytes, sampling_rate: int) -> torch.Tensor:
    """Load an audio file as a waveform (samples,), float32 from -1 to 1, mono, at `sampling_rate` Hz.

    path: a file of any format that libsndfile reads (WAV, FLAC, OGG, MP3 and others), or its content as bytes.
    Channels are averaged. A file whose header has no length, or only an estimate, is read to its end.

    Raises OSError for a file that cannot be read or decoded, or is truncated; ValueError for one without samples,
    with samples that are not finite or with an impossible sampling rate; ImportError if soundfile is missing.
    """
    name = _name(path)
    with _open_audio(path) as file:
        rate, announced, missing = file.samplerate, file.frames, _bytes_missing(file)
        samples = np.concatenate(list(_blocks(file)))
    if missing or len(samples) < announced != _UNKNOWN_LENGTH:
        what = f"{missing} bytes of samples are missing" if missing else f"{announced} samples are announced"
        raise OSError(
            f"{name} is truncated: {what}, {len(samples)} samples are there; get the whole file, or save what is "
            "there with `ffmpeg -i broken.wav repaired.wav`"
        )
    try:
        check_rate(rate)
        return resample(to_mono(samples.T), rate, sampling_rate)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def audio_length(path: str | os.PathLike | bytes) -> tuple[int, int]:
    """Return the number of samples of an audio file and its sampling rate in Hz.

    Only the last samples are decoded to check that they are there, or all of them if the file does not store how many
    it has.

    Raises OSError for a file that cannot be read or decoded, has no samples or is truncated.
    """
    with _open_audio(path) as file:
        samples, rate, last = file.frames, file.samplerate, min(file.frames, 1024)
        if samples != _UNKNOWN_LENGTH:
            try:
                file.seek(samples - last)
            except RuntimeError:  # some codecs, such as DWVW, can only be read from the start
                samples = _UNKNOWN_LENGTH
            else:
                if _bytes_missing(file) or len(file.read(last)) < last:
                    raise OSError(f"{_name(path)} is truncated")
    if samples == _UNKNOWN_LENGTH:
        with _open_audio(path) as file:
            samples = sum(map(len, _blocks(file)))
    if not samples:
        raise OSError(f"{_name(path)} has no samples")
    return samples, rate


def check_rate(rate: int) -> None:
    """Raise ValueError unless `rate` is a sampling rate in Hz from `LOWEST_RATE` to `HIGHEST_RATE`."""
    if not (isinstance(rate, Real) and LOWEST_RATE <= rate <= HIGHEST_RATE and rate == int(rate)):
        raise ValueError(
            f"sampling_rate must be a whole number of Hz from {LOWEST_RATE} to {HIGHEST_RATE}, got {rate!r}"
        )


def _name(path: str | os.PathLike | bytes) -> str:
    return "the bytes given" if isinstance(path, bytes) else os.fspath(path)


@contextmanager
def _open_audio(path: str | os.PathLike | bytes) -> Iterator[Any]:
    """Open a `soundfile.SoundFile` whose `frames` is the stored number of samples or `_UNKNOWN_LENGTH`.

    libsndfile takes two kinds of file for shorter than they are:

    - MP3 without a length frame: it estimates the number of samples from the size of the first frame and stops there.
      In a pipe, whose size it cannot know, it reads to the end.
    - WAV whose program was killed before it wrote the size of the samples: 0 is in its place.
    """
    try:
        import soundfile
    except ImportError as error:
        raise ImportError("reading audio files needs soundfile: pip install 'hf_vits[audio]'") from error
    if not isinstance(path, bytes) and not os.path.isfile(path):
        raise FileNotFoundError(f"there is no audio file {_name(path)}")

    class Stream(soundfile.SoundFile):
        """A file whose blocks soundfile reads one after the other.

        It would otherwise seek after each block, which needs the length, and which not every codec can.
        """

        def seekable(self) -> bool:
            return False

    try:
        with Stream(io.BytesIO(path) if isinstance(path, bytes) else path) as file:
            if file.format == "MP3":
                with _pipe(path) as pipe, Stream(pipe, closefd=False) as stream:
                    if stream.frames == _UNKNOWN_LENGTH:
                        yield stream
                        return
            elif file.format in ("WAV", "WAVEX") and not file.frames:
                with Stream(io.BytesIO(_content(path).replace(_ZERO_SIZE, _MAXIMAL_SIZE, 1))) as repaired:
                    yield repaired
                    return
            yield file
    except soundfile.LibsndfileError as error:
        raise OSError(f"{_name(path)} cannot be decoded as audio: {error.error_string}") from error


def _content(path: str | os.PathLike | bytes) -> bytes:
    return path if isinstance(path, bytes) else Path(path).read_bytes()


@contextmanager
def _pipe(path: str | os.PathLike | bytes) -> Iterator[int]:
    """Yield the reading end of a pipe that a thread fills with the content of a file."""
    reading, writing = os.pipe()

    def fill() -> None:
        try:
            with (
                open(writing, "wb") as pipe,
                io.BytesIO(path) if isinstance(path, bytes) else open(path, "rb") as file,
            ):
                shutil.copyfileobj(file, pipe)
        except BrokenPipeError:  # the reader has seen enough
            pass

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        thread.join()


def _blocks(file: Any) -> Iterator[np.ndarray]:
    """Yield the samples of a `soundfile.SoundFile` as (time, channels), block by block, to its end."""
    block = None
    while block is None or len(block) == _BLOCK:
        block = file.read(_BLOCK, dtype="float32", always_2d=True)
        yield block


def _bytes_missing(file: Any) -> int:
    """Return by how many bytes a file is shorter than its header says, which libsndfile itself ignores."""
    found = _CUT_OFF.search(file.extra_info)
    announced, held = map(int, found.groups()) if found else (0, 0)
    return max(announced - held, 0) if announced < _UNKNOWN_SIZE else 0


def to_waveforms(audio: Any, sampling_rate: int, from_rate: int | None = None) -> list[torch.Tensor]:
    """Convert clips to mono waveforms (samples,) of `sampling_rate` Hz.

    audio: a clip or a list of clips. A clip is an array, tensor or list of numbers (samples,) or, inside a list,
    (channels, samples); a path or an audio file's bytes; a dict with "array" and "sampling_rate", or
    with "bytes" or "path", as in `datasets`; or an object with `get_all_samples`, such as torchcodec's decoders. An
    array with two axes is a batch (clips, samples), one with three a batch (clips, channels, samples).
    from_rate: sampling rate in Hz of clips that come without one; `sampling_rate` by default.

    Raises TypeError, ValueError and OSError that name the number of the clip at fault.
    """
    is_batch = isinstance(audio, (list, tuple)) and not (audio and isinstance(audio[0], Real))
    is_batch = is_batch or getattr(audio, "ndim", 1) > 1
    clips = list(audio) if is_batch else [audio]
    if not clips:
        raise ValueError("expected at least one clip, got an empty batch")
    from_rate = sampling_rate if from_rate is None else from_rate
    check_rate(from_rate)
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
            check_rate(clip["sampling_rate"])
            return _waveform(clip["array"], sampling_rate, clip["sampling_rate"])
        source = clip.get("bytes") or clip.get("path")
        if not source:
            raise ValueError(f'a dict must have "array" and "sampling_rate", "bytes" or "path", got {list(clip)}')
        if not isinstance(source, (str, os.PathLike, bytes)):
            raise TypeError(f'"path" of an audio clip must be a path, and "bytes" bytes, got {source!r:.100}')
        return load_audio(source, sampling_rate)
    if hasattr(clip, "get_all_samples"):
        samples = clip.get_all_samples()
        check_rate(samples.sample_rate)
        return resample(to_mono(samples.data), samples.sample_rate, sampling_rate)
    return resample(to_mono(clip), from_rate, sampling_rate)


def to_mono(samples: Any) -> torch.Tensor:
    """Return a waveform (samples,), float32, from an array, tensor or list (samples,) or (channels, samples).

    Channels are averaged. Integers are divided by the range of their type; for unsigned 8 bits, 128 is silence.
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
    if max(-low, high) > _LOUDEST:
        raise ValueError(
            f"expected samples from -1 to 1, got a waveform of up to {max(-low, high):g}; divide it by its full scale"
        )
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
