"""Reading of a clip of a video file with its sound, both streams in one pass over the file."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from .decoding import Source, VideoReader
from .resample import resample

# Sound is stored a little before or after the frames that it belongs to.
_INTERLEAVING = 1.0  # seconds


class Clip(NamedTuple):
    """Frames with the sound that begins at the first of them.

    Attributes:
        frames: (frames, height, width, 3), uint8.
        sound: waveform (samples,), float32, mono; shorter than wanted where the sound ends earlier, and empty where it
            ends before the clip. None for a file without sound.
    """

    frames: np.ndarray
    sound: torch.Tensor | None


class ClipReader(VideoReader):
    """An open video file for clips with sound. Use it in a `with` statement.

    Attributes:
        info: as of `VideoReader`.
        sound_stream: the first stream of sound, or None.
    """

    def __init__(self, source: Source):
        super().__init__(source)
        self.sound_stream = next(iter(self.container.streams.audio), None)

    def read_clip(self, indices: Sequence[int] | np.ndarray, seconds: float, sampling_rate: int) -> Clip:
        """Read frames by position, as `VideoReader.read`, and the sound of as many seconds from the first of them on.

        Each packet of the file is read and decoded at most once.

        Args:
            indices: positions of frames, in any order, with repetitions.
            sampling_rate: of the returned sound, in Hz.

        Raises:
            IndexError: a position lies outside the video.
            OSError: the file is damaged, or its sound is in an unknown codec.
        """
        if self.sound_stream is not None and self.sound_stream.codec_context is None:
            raise OSError(f"{self.name} has sound in a codec that PyAV's FFmpeg does not know; encode it as AAC")
        positions = self._positions[self._checked(indices)]
        start = self._seconds(positions[0])
        found = self._collect(positions, start, start + seconds, from_start=False)
        if found is None:
            found = self._collect(positions, start, start + seconds, from_start=True)
        if found is None:
            raise OSError(f"{self.name} cannot be decoded up to frame {positions.max()}: it is damaged")
        pictures, waveform, rate = found
        frames = np.stack([pictures[position] for position in positions])
        return Clip(frames, None if rate is None else resample(waveform, rate, sampling_rate))

    def _seconds(self, position: int) -> float:
        """Return when the frame at a position in the file is shown."""
        if not self._timed:
            return position / self.info.fps
        return float(self._times[position] * self.stream.time_base)

    def _collect(self, positions: np.ndarray, start: float, end: float, from_start: bool) -> Any:
        """Return {position: frame}, a waveform (samples,) and its rate in Hz, None without sound.

        None where decoding did not begin early enough, as after an inexact seek, or a frame is missing.
        """
        wanted, pictures, sound = list(np.unique(positions)), {}, SoundPart(start, end)
        position = -1
        for frame in self._decode_both(wanted[0], from_start):
            if not hasattr(frame, "sample_rate"):
                position = self._position(frame, position)
                if not pictures and position > wanted[0] and not from_start:
                    return None
                while len(pictures) < len(wanted) and position >= wanted[len(pictures)]:
                    pictures[wanted[len(pictures)]] = self._to_rgb(frame)
            else:
                sound.add(frame)
            if len(pictures) == len(wanted) and (self.sound_stream is None or sound.is_complete):
                break
        if len(pictures) < len(wanted):
            return None
        rate = None if self.sound_stream is None else self.sound_stream.codec_context.sample_rate
        return pictures, sound.waveform(), rate

    def _position(self, frame: Any, before: int) -> int:
        """Return the position in the file of a decoded frame; `before`, that of the frame before."""
        if not self._timed:
            return before + 1
        return int(np.searchsorted(self._times, frame.pts, side="right")) - 1

    def _decode_both(self, first: int, from_start: bool) -> Iterator[Any]:
        """Yield decoded frames and pieces of sound in the order of the file, beginning before a frame's position."""
        if from_start or not self._timed:
            self._seek(0)
        else:
            keyframe = self._keyframes[np.searchsorted(self._keyframes, first, side="right") - 1]
            margin = int(_INTERLEAVING / self.stream.time_base) if self.sound_stream is not None else 0  # pyright: ignore[reportOperatorIssue]
            self._seek(int(min(self._times[keyframe], self._times[first] - margin)), stream=self.stream)
        streams = [self.stream] if self.sound_stream is None else [self.stream, self.sound_stream]
        packets = self.container.demux(*streams)
        return self._guarded(frame for packet in packets for frame in packet.decode())


class SoundPart:
    """Collects the part of decoded sound between two times in seconds."""

    def __init__(self, start: float, end: float):
        self.start, self.end = start, end
        self.pieces: list[np.ndarray] = []
        self.is_complete = False
        self._resampler: Any = None

    def add(self, frame: Any) -> None:
        """Add a piece of sound; pieces come in the order of their times."""
        from av.audio.resampler import AudioResampler

        begin = 0.0 if frame.time is None else frame.time
        length = frame.samples / frame.sample_rate
        self.is_complete = begin + length >= self.end
        if begin + length <= self.start or begin >= self.end:
            return
        self._resampler = self._resampler or AudioResampler("fltp")  # planes of floats, rate and channels as they are
        samples = np.concatenate([part.to_ndarray() for part in self._resampler.resample(frame)], axis=1).mean(axis=0)
        first, last = (round((time - begin) * frame.sample_rate) for time in (self.start, self.end))
        if not self.pieces and first < 0:  # the sound begins after the frame
            self.pieces.append(np.zeros(-first, np.float32))
        self.pieces.append(samples[max(first, 0) : last])

    def waveform(self) -> torch.Tensor:
        """Return the waveform (samples,)."""
        return torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *self.pieces]))


__all__ = ["Clip", "ClipReader"]
