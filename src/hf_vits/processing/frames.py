"""Access to frames of videos in the forms that users have them: files, decoders, frames in memory."""

import os
from typing import Any

import numpy as np
import torch
from huggingface_hub.utils import httpx
from transformers.image_utils import ChannelDimension
from transformers.video_utils import VideoMetadata

from .decoding import VideoReader
from .pixels import to_pixels


class Frames:
    """A video opened for reading frames, to be used in a `with` statement.

    Attributes:
        metadata: number of frames and, if known, their rate and size.
    """

    metadata: VideoMetadata

    def __enter__(self) -> "Frames":
        return self

    def __exit__(self, *exception) -> None:
        pass

    def read(
        self, indices: np.ndarray, to_rgb: bool, channel_dimension: str | ChannelDimension | None = None
    ) -> torch.Tensor:
        """Read frames as (frames, channels, height, width), uint8 or float32; arguments as in `to_pixels`."""
        raise NotImplementedError


class FileFrames(Frames):
    """Frames of a file, always RGB."""

    def __init__(self, source):
        self.reader = VideoReader(source)
        info = self.reader.info
        self.metadata = VideoMetadata(
            total_num_frames=info.num_frames,
            fps=info.fps,
            height=info.height,
            width=info.width,
            duration=info.duration,
            video_backend="pyav",
        )

    def __exit__(self, *exception) -> None:
        self.reader.close()

    def read(self, indices, to_rgb, channel_dimension=None):
        return torch.from_numpy(self.reader.read(indices)).permute(0, 3, 1, 2)


class DecodedFrames(Frames):
    """Frames in memory."""

    def __init__(self, frames, metadata: VideoMetadata | None):
        self.frames = frames
        if not len(frames):
            raise ValueError("expected a video of at least one frame, got none")
        if metadata is not None and metadata.total_num_frames != len(frames):
            raise ValueError(
                f"video_metadata has total_num_frames={metadata.total_num_frames}, but {len(frames)} frames were "
                "given; for frames sampled in advance pass do_sample_frames=False and no video_metadata"
            )
        self.metadata = metadata or VideoMetadata(total_num_frames=len(frames))

    def read(self, indices, to_rgb, channel_dimension=None):
        return stack([self.frames[index] for index in indices], to_rgb, channel_dimension)


class TorchcodecFrames(Frames):
    """Frames of a `torchcodec.decoders.VideoDecoder`."""

    def __init__(self, decoder):
        self.decoder = decoder
        known = decoder.metadata
        self.metadata = VideoMetadata(
            total_num_frames=known.num_frames,
            fps=known.average_fps,
            height=known.height,
            width=known.width,
            duration=known.duration_seconds,
            video_backend="torchcodec",
        )

    def read(self, indices, to_rgb, channel_dimension=None):
        return stack(self.decoder.get_frames_at(indices.tolist()).data, to_rgb, channel_dimension)


def open_frames(video: Any, metadata: VideoMetadata | None = None) -> Frames:
    """Open a video in any of the forms that `VitsVideoProcessor` takes.

    metadata: metadata of frames in memory; files have their own.

    Raises TypeError for other objects, and the errors of `hf_vits.processing.decoding.probe`.
    """
    if isinstance(video, str) and video.startswith(("http://", "https://")):
        return FileFrames(download(video))
    if isinstance(video, str | os.PathLike | bytes) or hasattr(video, "read"):
        return FileFrames(video)
    if hasattr(video, "get_frames_at"):
        return TorchcodecFrames(video)
    if isinstance(video, list | tuple) or getattr(video, "ndim", None) == 4:
        return DecodedFrames(video, metadata)
    shape = f" of shape {tuple(video.shape)}" if hasattr(video, "shape") else ""
    raise TypeError(
        "expected the path, URL or contents of a video file, a VideoDecoder, a list of frames, or an array or tensor "
        f"of them (frames first), got {type(video).__name__}{shape}"
    )


def download(url: str) -> bytes:
    """Download a file; OSError if that fails."""
    try:
        return httpx.get(url, follow_redirects=True).raise_for_status().content
    except httpx.HTTPError as error:
        raise OSError(f"{url} cannot be downloaded: {error}") from error


def stack(frames, to_rgb: bool, channel_dimension: str | ChannelDimension | None) -> torch.Tensor:
    """Stack frames to a tensor (frames, channels, height, width); ValueError if their sizes differ."""
    frames = [to_pixels(frame, "RGB" if to_rgb else None, channel_dimension) for frame in frames]
    shapes = {tuple(frame.shape) for frame in frames}
    if len(shapes) > 1:
        raise ValueError(f"expected frames of one size, got (channels, height, width) of {sorted(shapes)}")
    return torch.stack(frames)
