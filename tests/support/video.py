"""Video files for tests, encoded here, whose frames show their number."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 12


def numbered(numbers: Iterable[int], height: int = 48, width: int = 96) -> np.ndarray:
    """uint8 (frames, height, width, 3): the bits of each number as bands from left to right, white for 1.

    The bands are coarse enough to be read after any lossy coding.
    """
    bits = (np.array(list(numbers))[:, None] >> np.arange(BITS)) & 1
    bands = np.repeat(bits.astype(np.uint8) * 255, width // BITS, axis=1)
    return np.broadcast_to(bands[:, None, :, None], (len(bands), height, bands.shape[1], 3)).copy()


def numbers_in(frames) -> list[int]:
    """The numbers that frames (frames, height, width, 3) show."""
    frames = np.asarray(frames)
    bands = frames.reshape(len(frames), frames.shape[1], BITS, -1).mean(axis=(1, 3)) > 127
    return (bands << np.arange(BITS)).sum(axis=1).tolist()


def encode(
    path: Path,
    frames: np.ndarray,
    fps: Fraction | int = 30,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    keyframe_every: int = 12,
    b_frames: int = 2,
    times: Iterable[int] | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write frames (frames, height, width[, channels]) as a video; the ending of `path` gives the container.

    times: when each frame is shown, in 1/1000 seconds, for a variable frame rate.
    rotation: degrees counterclockwise by which players are told to turn it.
    """
    source = {2: "gray", 3: "rgb24", 4: "rgba"}[frames.shape[-1] if frames.ndim == 4 else 2]
    with av.open(str(path), "w", options=options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.gop_size = pixel_format, keyframe_every
        if b_frames:
            stream.codec_context.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=source)
            if times is not None:
                frame.pts, frame.time_base = int(times[index]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def encode_sound(path: Path, codec: str = "pcm_s16le") -> Path:
    """Write half a second of silence, and no video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.int16), format="s16", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
