"""Frames of video files by their position, without decoding more of the file than it takes."""

import itertools
import os
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import torch

try:
    import av.container
    import av.stream
    import av.video.reformatter
except ImportError:  # an extra of hf_vits; frames that are decoded already do without it
    if not TYPE_CHECKING:
        av = None

Source = str | os.PathLike | bytes | BinaryIO

# A seek throws away what the decoder has done ahead, so that it pays only if it skips more frames than this.
WORTH_A_SEEK = 4
# Formats of which torchcodec finds every frame; in others, without an index, it misses the last ones.
_INDEXED = ("mov,mp4", "matroska")


class VideoInfo(NamedTuple):
    """What `probe` tells of a video.

    Attributes:
        num_frames: how many frames it has.
        fps: how many of them it shows per second, on average.
        height, width: of its frames as stored, in pixels; a recording that is to be turned is read turned.
        constant_rate: whether all frames are shown equally long.
    """

    num_frames: int
    fps: float
    height: int
    width: int
    constant_rate: bool

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.num_frames / self.fps


def probe(source: Source) -> VideoInfo:
    """Read a video's size and frame rate and count its frames, from its packets, without decoding one.

    source: path, contents of a file as bytes, or a binary file that can seek.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: PyAV is not installed.
        OSError: the file is empty, cut short, damaged or of no known format.
        ValueError: it has no video in it.
    """
    with VideoReader(source) as video:
        return video.info


def read_frames(source: Source, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Frames of a video by their positions, in any order and any number of times.

    Decodes from the last keyframe before a frame, and skips to a later keyframe where that is shorter. In memory are
    the frames returned and what the decoder needs, whatever the length of the video.

    Positions are those of a video of constant rate: where frames are shown for different times, position k stands for
    the frame on show at k / fps seconds, with `fps` as `probe` gives it.

    source: as for `probe`, with the same errors.
    indices: positions from 0 to `probe(source).num_frames - 1`.

    Returns uint8 of shape (len(indices), height, width, 3), RGB. Grey becomes three equal channels, alpha is dropped,
    more than 8 bits are rounded to 8, and a recording that says it is turned is turned upright.

    Raises IndexError for a position outside the video.
    """
    with VideoReader(source) as video:
        return video.read(indices)


@cache
def torchcodec_decoder() -> type | None:
    """torchcodec's `VideoDecoder`, whose frames are PyAV's to the bit and come sooner; None where it does not work."""
    try:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports] - optional
    except (ImportError, OSError, RuntimeError):  # it is not there, or has not found FFmpeg
        return None
    return VideoDecoder


class VideoReader:
    """An open video file; `probe` and `read_frames` in one opening. Use it in a `with` statement.

    PyAV finds the frames and decodes them, or torchcodec does where it is installed and can. Either takes as many
    threads as torch does, which is one in a worker of a `DataLoader`.

    Attributes:
        info: see `VideoInfo`.
    """

    def __init__(self, source: Source):
        self.name = os.path.basename(source) if isinstance(source, str | os.PathLike) else "the video"
        self.source, self._torchcodec = source, None
        self.container = open_container(source, self.name)
        try:
            self.stream = video_stream(self.container, self.name)
            self.stream.thread_type = "AUTO"
            self.stream.codec_context.thread_count = torch.get_num_threads()
            # One for all frames: each frame would otherwise make its own, with a thread per core.
            self._reformatter = av.video.reformatter.VideoReformatter()
            self._scan()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        self.source = self._torchcodec = None
        self.container.close()

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """See `read_frames`."""
        positions = self._positions[self._checked(indices)]
        found = self._read_by_torchcodec(positions)
        if found is not None:
            return found
        frames = np.empty(0, dtype=np.uint8)
        for position, frame in self._decode(np.unique(positions)):
            picture = self._to_rgb(frame)
            if not frames.size:
                frames = np.empty((len(positions), *picture.shape), dtype=np.uint8)
            frames[positions == position] = picture
        return frames

    def _read_by_torchcodec(self, positions: np.ndarray) -> np.ndarray | None:
        """(frames, height, width, 3) of uint8 at positions among the frames of the file; None where it cannot."""
        # Of an open file each library would move the other's place.
        if not isinstance(self.source, str | os.PathLike | bytes):
            return None
        if not self.container.format.name.startswith(_INDEXED) or torchcodec_decoder() is None:
            return None
        try:
            if self._torchcodec is None:
                self._torchcodec = torchcodec_decoder()(
                    os.fspath(self.source),
                    stream_index=self.stream.index,
                    dimension_order="NHWC",
                    num_ffmpeg_threads=torch.get_num_threads(),
                )
            if len(self._torchcodec) != self.info.num_frames:  # it counts frames that are not to be shown
                return None
            return self._torchcodec.get_frames_at(positions.tolist()).data.numpy()
        except (IndexError, RuntimeError):  # PyAV reads it after all, or says what is wrong with it
            return None

    def _checked(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        if indices.ndim != 1 or not len(indices) or indices.dtype.kind not in "iu":
            raise ValueError(f"expected a list of positions of frames, got {indices.dtype} of shape {indices.shape}")
        if indices.min() < 0 or indices.max() >= self.info.num_frames:
            raise IndexError(
                f"{self.name} has frames 0 to {self.info.num_frames - 1}, but {indices.min()} to {indices.max()} were "
                "asked for"
            )
        return indices

    def _scan(self) -> None:
        """Read all packets, to know when each frame is shown and from which frames decoding can start."""
        packets = [
            (packet.pts, packet.duration or 0, packet.is_keyframe)
            for packet in self._guarded(self.container.demux(self.stream))
            if packet.size and not packet.is_discard
        ]
        if not packets:
            raise OSError(f"{self.name} holds no frames: it is empty or cut short")
        if len(packets) < self.stream.frames:
            raise OSError(
                f"{self.name} is cut short: it announces {self.stream.frames} frames and holds {len(packets)}; get "
                "the whole file, or save what is there with `ffmpeg -i broken -c copy repaired`"
            )
        fps, self._positions = float(self.stream.average_rate or 1), np.arange(len(packets))
        self._timed = all(time is not None for time, _, _ in packets)
        if self._timed:
            packets.sort()
            self._times = np.array([time for time, _, _ in packets])
            self._keyframes = np.union1d([0], np.flatnonzero([is_keyframe for _, _, is_keyframe in packets]))
            end = packets[-1][0] + packets[-1][1]
            seconds = (np.append(self._times, end) - self._times[0]) * float(self.stream.time_base)
            fps, self._positions = constant_rate(seconds, fps)
        else:  # AVI and other old formats may keep no times: then frames are counted from the first
            self._times, self._keyframes = self._positions, np.array([0])
        size = self.stream.codec_context
        is_constant = bool((np.diff(self._positions) == 1).all())
        self.info = VideoInfo(len(packets), fps, size.height, size.width, is_constant)

    def _decode(self, positions: np.ndarray) -> Iterator[tuple[int, "av.VideoFrame"]]:
        """(position, frame) for ascending positions among the frames of the file."""
        frames, reached = None, 0
        for position in positions:
            keyframe = self._keyframes[np.searchsorted(self._keyframes, position, side="right") - 1]
            if frames is None or keyframe - reached > WORTH_A_SEEK:
                frames = self._frames_from(int(self._times[keyframe]))
            frame = next((frame for time, frame in frames if time >= self._times[position]), None)
            if frame is None:
                raise OSError(f"{self.name} cannot be decoded up to frame {position}: it is damaged")
            reached = position
            yield position, frame

    def _frames_from(self, start: int) -> Iterator[tuple[Any, "av.VideoFrame"]]:
        """(time, frame) from the keyframe shown at `start` on, or from an earlier one."""
        if not self._timed:
            self.container.seek(0)
            return enumerate(self._frames())
        self.container.seek(start, stream=self.stream)
        frames = self._frames()
        first = next(frames, None)
        if first is None or first.pts > start:
            # Formats without an index find places by guessing, and may end up behind it.
            self.container.seek(0)
            frames = self._frames()
        else:
            frames = itertools.chain([first], frames)
        return ((frame.pts, frame) for frame in frames)

    def _frames(self) -> Iterator["av.VideoFrame"]:
        return self._guarded(self.container.decode(self.stream))

    def _guarded(self, items: Iterator) -> Iterator:
        """The same items, with FFmpeg's errors told in terms of the file."""
        try:
            yield from items
        except av.FFmpegError as error:
            raise OSError(f"{self.name} is damaged or cut short: {error}") from error

    def _to_rgb(self, frame: "av.VideoFrame") -> np.ndarray:
        size = self.info.width, self.info.height
        picture = self._reformatter.reformat(frame, *size, "rgb24", threads=torch.get_num_threads()).to_ndarray()
        return np.rot90(picture, frame.rotation // 90)


def open_container(source: Source, name: str) -> "av.container.InputContainer":
    """Open a file for reading; the errors are those of `probe`."""
    if av is None:
        raise ImportError("decoding videos needs PyAV: pip install 'hf_vits[video]'")
    if isinstance(source, str | os.PathLike):
        if not os.path.isfile(source):
            raise FileNotFoundError(f"no video file at {os.fspath(source)}")
        source = os.fspath(source)
    elif isinstance(source, bytes):
        source = BytesIO(source)
    elif not (hasattr(source, "read") and hasattr(source, "seek")):
        raise TypeError(
            f"expected the path of a video, its contents as bytes, or a binary file that can seek, got "
            f"{type(source).__name__}"
        )
    else:
        source.seek(0)
    try:
        return av.open(source, "r")
    except av.FFmpegError as error:
        raise OSError(f"{name} is empty, cut short, or no video of a known format: {error}") from error


def video_stream(container: "av.container.InputContainer", name: str) -> "av.VideoStream":
    """The first stream of moving pictures; the errors are those of `probe`. A cover picture does not move."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if streams:
        return streams[0]
    found = {stream.type for stream in container.streams} - {"data"}
    if not found:
        raise OSError(f"{name} holds no streams: it is cut short or damaged")
    raise ValueError(f"{name} holds no video, only {', '.join(sorted(found))}")


def constant_rate(seconds: np.ndarray, declared_rate: float) -> tuple[float, np.ndarray]:
    """Frames per second, and which frame is on show at k / fps for each k: the k-th, if the rate is constant.

    seconds: when each frame is shown, from 0, and when the last one ends. Rounded as they are in many files they give
    a rate that is not quite right, so the declared one is preferred where it fits them. When the last one ends is
    often wrong.
    """
    *starts, end = seconds.tolist()
    steps = np.arange(len(starts))
    steady_rate = (len(starts) - 1) / starts[-1] if starts[-1] > 0 else 1.0
    for rate in (declared_rate, steady_rate):
        if np.abs(seconds[:-1] - steps / rate).max() < 0.5 / rate:
            return rate, steps
    mean_rate = len(starts) / end if end > 0 else declared_rate
    return mean_rate, np.searchsorted(seconds[:-1], steps / mean_rate + 1e-6, side="right") - 1
