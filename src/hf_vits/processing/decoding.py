"""Reading of frames of video files by position, decoding only the parts of the file that are needed."""

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
except ImportError:  # an optional dependency, not needed for frames that are decoded already
    if not TYPE_CHECKING:
        av = None

Source = str | os.PathLike | bytes | BinaryIO

# After a seek the decoder starts anew, so seeking is worthwhile only if it skips more frames than this.
WORTH_A_SEEK = 4
# Formats with an index, in which torchcodec finds every frame; in others it misses the last ones.
_INDEXED = ("mov,mp4", "matroska")


class VideoInfo(NamedTuple):
    """Facts about a video.

    Attributes:
        num_frames: number of frames that a player shows.
        fps: frames per second, on average.
        height, width: size in pixels of the frames as stored; `read_frames` rotates a recording that is marked so.
        constant_rate: whether all frames are shown for the same time.
    """

    num_frames: int
    fps: float
    height: int
    width: int
    constant_rate: bool

    @property
    def duration(self) -> float:
        """Return the duration in seconds."""
        return self.num_frames / self.fps


class Packet(NamedTuple):
    """A compressed frame.

    Attributes:
        time: when it is shown, in units of the stream's time base; None if the file does not store it.
        duration: in the same units.
        is_keyframe: whether decoding can start with it.
        is_shown: False for frames that an edit list hides and for empty packets.
    """

    time: int | None
    duration: int
    is_keyframe: bool
    is_shown: bool


def probe(source: Source) -> VideoInfo:
    """Return a video's size, frame rate and number of frames, from its packets, without decoding.

    source: path, contents of a file as bytes, or a seekable binary file.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: PyAV is not installed.
        OSError: the file is empty, cut short, damaged, or its format or codec is unknown.
        ValueError: there is no video in it.
    """
    with VideoReader(source) as video:
        return video.info


def read_frames(source: Source, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Read frames of a video by position, in any order, with repetitions.

    Decoding starts at the last keyframe before a frame, and skips to a later keyframe if that is faster. Only the
    returned frames and the decoder's own are in memory, whatever the length of the video.

    If frames are shown for different times, position k is the frame shown at k / fps seconds, with `fps` as returned
    by `probe`.

    source: as for `probe`, with the same errors.
    indices: positions from 0 to `probe(source).num_frames - 1`.

    Returns uint8 of shape (len(indices), height, width, 3), RGB. Grey becomes three equal channels, alpha is dropped,
    more than 8 bits are reduced to 8, and a recording with a rotation in its metadata is rotated.

    Raises IndexError for a position outside the video.
    """
    with VideoReader(source) as video:
        return video.read(indices)


@cache
def torchcodec_decoder() -> type | None:
    """Return torchcodec's `VideoDecoder`, which is faster than PyAV, with equal frames; None if it does not work."""
    try:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports] - optional
    except (ImportError, OSError, RuntimeError):  # it is not installed, or has not found FFmpeg
        return None
    return VideoDecoder


class VideoReader:
    """An open video file, for `probe` and `read_frames` without opening it twice. Use it in a `with` statement.

    PyAV decodes it or, if it is installed and gives equal frames, torchcodec. Both use as many threads as torch,
    which is one in a worker of a `DataLoader`.

    Attributes:
        info: the video's `VideoInfo`.
    """

    def __init__(self, source: Source):
        self.name = os.path.basename(source) if isinstance(source, str | os.PathLike) else "the video"
        self.source, self._torchcodec = source, None
        self.container = open_container(source, self.name)
        try:
            self.stream = video_stream(self.container, self.name)
            self.stream.thread_type = "AUTO"
            self.stream.codec_context.thread_count = torch.get_num_threads()
            # Shared by all frames: otherwise each frame makes its own, with a thread per core.
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
        """Read frames by position, see `read_frames`."""
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
        """Read uint8 (frames, height, width, 3) at positions in the file by torchcodec; None if it cannot."""
        # Both libraries would move the position of an open file. More than 8 bits they round differently.
        if not isinstance(self.source, str | os.PathLike | bytes):
            return None
        eight_bits = all(component.bits == 8 for component in self.stream.codec_context.format.components)
        indexed = self.container.format.name.startswith(_INDEXED)
        if not (eight_bits and indexed) or torchcodec_decoder() is None:
            return None
        try:
            if self._torchcodec is None:
                self._torchcodec = torchcodec_decoder()(
                    os.fspath(self.source),
                    stream_index=self.stream.index,
                    dimension_order="NHWC",
                    num_ffmpeg_threads=torch.get_num_threads(),
                )
            if len(self._torchcodec) != self.info.num_frames:  # it counts frames that are not shown
                return None
            return self._torchcodec.get_frames_at(positions.tolist()).data.numpy()
        except (IndexError, RuntimeError):  # PyAV reads it, or raises a clear error
            return None

    def _checked(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        if indices.ndim != 1 or not len(indices) or indices.dtype.kind not in "iu":
            raise ValueError(f"expected a list of positions of frames, got {indices.dtype} of shape {indices.shape}")
        if indices.min() < 0 or indices.max() >= self.info.num_frames:
            raise IndexError(
                f"{self.name} has frames 0 to {self.info.num_frames - 1}, but {indices.min()} to {indices.max()} were "
                "requested"
            )
        return indices

    def _scan(self) -> None:
        """Read all packets to find out when each frame is shown and from which frames decoding can start."""
        packets = [
            Packet(packet.pts, packet.duration or 0, packet.is_keyframe, bool(packet.size) and not packet.is_discard)
            for packet in self._guarded(self.container.demux(self.stream))
            if packet.size or packet.dts is not None  # the last one only ends the stream
        ]
        # In a file that was cut without encoding it again, an edit list shortens the index, not the header's count.
        announced = min(self.stream.frames, len(self.stream.index_entries))
        if len(packets) < announced:
            raise OSError(
                f"{self.name} is cut short: it announces {announced} frames and holds {len(packets)}; get "
                "the whole file, or save what is there with `ffmpeg -i broken -c copy repaired`"
            )
        packets = shown_packets(packets)
        if self.stream.codec_context.format is None:  # it is in the first frame, for some codecs
            raise OSError(f"{self.name} is cut short or damaged: its pixel format is not known")
        if not packets:
            raise OSError(f"{self.name} holds no frames: it is empty or cut short")
        fps, self._positions = float(self.stream.average_rate or 1), np.arange(len(packets))
        self._timed = all(packet.time is not None for packet in packets)
        if self._timed:
            packets.sort()
            self._times = np.array([packet.time for packet in packets])
            self._keyframes = np.union1d([0], np.flatnonzero([packet.is_keyframe for packet in packets]))
            end = packets[-1].time + packets[-1].duration
            seconds = (np.append(self._times, end) - self._times[0]) * float(self.stream.time_base)
            fps, self._positions = constant_rate(seconds, fps)
        else:  # AVI and other old formats may store no times: then frames are counted from the first
            self._times, self._keyframes = self._positions, np.array([0])
        size = self.stream.codec_context
        is_constant = bool((np.diff(self._positions) == 1).all())
        self.info = VideoInfo(len(packets), fps, size.height, size.width, is_constant)

    def _decode(self, positions: np.ndarray) -> Iterator[tuple[int, "av.VideoFrame"]]:
        """Yield (position, frame) for ascending positions in the file."""
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
        """Yield (time, frame), beginning at the keyframe shown at `start` or at an earlier one."""
        if not self._timed:
            self._seek(0)
            return enumerate(self._frames())
        self._seek(start, stream=self.stream)
        frames = self._frames()
        first = next(frames, None)
        if first is None or first.pts > start:
            # In formats without an index, seeking is inexact and may end behind `start`.
            self._seek(0)
            frames = self._frames()
        else:
            frames = itertools.chain([first], frames)
        return ((frame.pts, frame) for frame in frames)

    def _seek(self, time: int, **options: Any) -> None:
        for _ in self._guarded(self.container.seek(time, **options) for _ in range(1)):
            pass

    def _frames(self) -> Iterator["av.VideoFrame"]:
        return self._guarded(self.container.decode(self.stream))

    def _guarded(self, items: Iterator) -> Iterator:
        """Yield the same items; raise FFmpeg's errors as OSError with the name of the file."""
        try:
            yield from items
        except av.FFmpegError as error:
            raise OSError(f"{self.name} is damaged or cut short: {error}") from error

    def _to_rgb(self, frame: "av.VideoFrame") -> np.ndarray:
        size = self.info.width, self.info.height
        picture = self._reformatter.reformat(frame, *size, "rgb24", threads=torch.get_num_threads()).to_ndarray()
        return np.rot90(picture, frame.rotation // 90)


def open_container(source: Source, name: str) -> "av.container.InputContainer":
    """Open a file for reading; raises the errors of `probe`."""
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
        return av.open(source, "r", metadata_errors="replace")  # titles in other encodings than UTF-8
    except av.FFmpegError as error:
        raise OSError(f"{name} is empty, cut short, or no video of a known format: {error}") from error


def video_stream(container: "av.container.InputContainer", name: str) -> "av.VideoStream":
    """Return the first video stream that is not a cover picture; raises the errors of `probe`."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if streams:
        if streams[0].codec_context is None:
            raise OSError(f"{name} holds a video in a codec that PyAV's FFmpeg does not know; encode it as H.264")
        return streams[0]
    found = {stream.type for stream in container.streams} - {"data"}
    if not found:
        raise OSError(f"{name} holds no streams: it is cut short or damaged")
    raise ValueError(f"{name} holds no video, only {', '.join(sorted(found))}")


def shown_packets(packets: list[Packet]) -> list[Packet]:
    """Return the packets whose frames a player shows.

    Not shown are frames that an edit list hides, and those before the first keyframe of a recording that was cut
    without encoding it again: they cannot be decoded.
    """
    first = next((packet.time for packet in packets if packet.is_keyframe), None)
    return [
        packet
        for packet in packets
        if packet.is_shown and (first is None or packet.time is None or packet.time >= first)
    ]


def constant_rate(seconds: np.ndarray, declared_rate: float) -> tuple[float, np.ndarray]:
    """Return the frames per second, and for each k the frame shown at k / fps: the k-th, if the rate is constant.

    seconds: when each frame is shown, from 0, and when the last one ends.
    declared_rate: frames per second in the header. It is preferred if it fits the times, which many files round.

    The end of the last frame is often wrong, and used only if the rate is not constant.
    """
    *starts, end = seconds.tolist()
    steps = np.arange(len(starts))
    steady_rate = (len(starts) - 1) / starts[-1] if starts[-1] > 0 else 1.0
    for rate in (declared_rate, steady_rate):
        if np.abs(seconds[:-1] - steps / rate).max() < 0.5 / rate:
            return rate, steps
    mean_rate = len(starts) / end if end > 0 else declared_rate
    return mean_rate, np.searchsorted(seconds[:-1], steps / mean_rate + 1e-6, side="right") - 1
