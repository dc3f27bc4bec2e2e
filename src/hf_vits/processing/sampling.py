"""Sampling of the frames of a clip from a video, as each original does.

Three conventions:

- "slowfast": a clip has the duration of `num_frames * sampling_rate` frames at 30 frames per second, and consists of
  `num_frames` evenly spaced frames of it, positions rounded down. Beyond the end of the video its last frame repeats.
  Source: facebookresearch/SlowFast, slowfast/datasets/decoder.py, with DATA.USE_OFFSET_SAMPLING, as for MViT.
- "slowfast_segments": the whole video is divided into `num_frames` segments, and the clip consists of the frames in
  their middles. Source: slowfast/datasets/ssv2.py. SlowFast uses it for Something-Something.
- "scenic": every `sampling_rate`-th frame, whatever the video's frames per second. A video that is too short is
  repeated. Source: google-deepmind/dmvr, dmvr/processors.py, which google-research/scenic reads with.
"""

import math
from numbers import Real

import numpy as np
import torch

CONVENTIONS = ("slowfast", "slowfast_segments", "scenic")
SLOWFAST_FPS = 30


def sample_indices(
    total_num_frames: int,
    fps: float | None,
    num_frames: int,
    sampling_rate: int = 1,
    convention: str = "slowfast",
    num_clips: int = 1,
) -> np.ndarray:
    """Return the frames of the clips used for testing: the central one, or several spread over the video.

    Args:
        total_num_frames: number of frames in the video.
        fps: its frames per second; None means unknown and is taken as 30.
        num_frames: number of frames in a clip.
        sampling_rate: distance between frames of a clip; not used with segments.
        convention: one of `CONVENTIONS`.
        num_clips: number of clips; 1 with segments.

    Returns:
        Positions of frames in the video, int64 of shape (num_clips, num_frames).

    Raises:
        ValueError: a number is not above 0, or the convention does not allow so many clips.
    """
    check_sampling(total_num_frames, fps, num_frames, sampling_rate, convention, num_clips)
    if convention == "slowfast_segments":
        first, last = segments(total_num_frames, num_frames)
        return ((first + last) // 2)[None]
    if convention == "slowfast":
        size = slowfast_clip_size(fps, num_frames, sampling_rate)
        starts = slowfast_starts(max(total_num_frames - size, 0), num_clips)
        return np.stack([slowfast_clip(total_num_frames, start, size, num_frames) for start in starts])
    starts = scenic_starts(max(total_num_frames - num_frames * sampling_rate, 0), num_clips)
    return np.stack([scenic_clip(total_num_frames, start, num_frames, sampling_rate) for start in starts])


def sample_random_indices(
    total_num_frames: int,
    fps: float | None,
    num_frames: int,
    sampling_rate: int = 1,
    convention: str = "slowfast",
) -> np.ndarray:
    """Draw the frames of a clip for training, with a random start or a random frame of each segment.

    Arguments and errors are as for `sample_indices`. Uses torch's default random generator.

    Returns:
        Positions of frames in the video, int64 of shape (num_frames,).
    """
    check_sampling(total_num_frames, fps, num_frames, sampling_rate, convention)
    if convention == "slowfast_segments":
        first, last = segments(total_num_frames, num_frames)
        return first + (torch.rand(num_frames).numpy() * (last - first + 1)).astype(np.int64)
    if convention == "slowfast":
        size = slowfast_clip_size(fps, num_frames, sampling_rate)
        start = torch.rand((), dtype=torch.float64).item() * max(total_num_frames - size, 0)
        return slowfast_clip(total_num_frames, start, size, num_frames)
    # The clip need not be followed by the frames that sampling_rate skips, so there are more starts than for testing.
    num_starts = max(total_num_frames - (num_frames - 1) * sampling_rate, 1)
    return scenic_clip(total_num_frames, int(torch.randint(num_starts, ())), num_frames, sampling_rate)


def check_sampling(
    total_num_frames: int,
    fps: float | None,
    num_frames: int,
    sampling_rate: int,
    convention: str,
    num_clips: int = 1,
) -> None:
    """Raise ValueError if arguments of `sample_indices` are invalid."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    numbers = {"total_num_frames": total_num_frames, "num_frames": num_frames, "sampling_rate": sampling_rate}
    for name, value in (numbers | {"num_clips": num_clips}).items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
    if fps is not None and not (isinstance(fps, Real) and fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps must be above 0, or None if it is not known, got {fps!r}")
    if convention == "slowfast_segments" and num_clips > 1:
        raise ValueError(f"segments cover the whole video, so there is one clip, but num_clips={num_clips}")


def slowfast_clip_size(fps: float | None, num_frames: int, sampling_rate: int) -> float:
    """Return how many frames of the video a clip covers."""
    return max(1.0, sampling_rate * num_frames / SLOWFAST_FPS * (fps or SLOWFAST_FPS))


def slowfast_starts(room: float, num_clips: int) -> list[int]:
    """Return the first frames of clips, which can be 0 to `room`."""
    if num_clips == 1:
        return [math.floor(room / 2)]
    return [index * math.floor(room / (num_clips - 1)) for index in range(num_clips)]


def slowfast_clip(total_num_frames: int, start: float, size: float, num_frames: int) -> np.ndarray:
    """Return evenly spaced frames from `start` to `start + size - 1`, torch.linspace's values rounded down."""
    first = math.ceil(start)
    last = min(math.floor(start + size - 1), total_num_frames - 1)
    steps = torch.linspace(0, size - 1, num_frames).long().numpy()
    return (first + steps).clip(max=max(last, first))


def scenic_starts(room: int, num_clips: int) -> list[int]:
    """Return the first frames of clips, which can be 0 to `room`, in single precision as in tf.linspace."""
    if num_clips == 1:
        return [room // 2]
    step = np.float32(room) / np.float32(num_clips - 1)
    return [*(int(step * np.float32(index)) for index in range(num_clips - 1)), room]


def scenic_clip(total_num_frames: int, start: int, num_frames: int, sampling_rate: int) -> np.ndarray:
    """Return every `sampling_rate`-th frame from `start`, repeating the video after its last frame."""
    return (start + np.arange(num_frames, dtype=np.int64) * sampling_rate) % total_num_frames


def segments(total_num_frames: int, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last frame of each of `num_frames` equal segments; neighbours share a frame."""
    edges = np.round((total_num_frames - 1) / num_frames * np.arange(num_frames + 1)).astype(np.int64)
    return edges[:-1], edges[1:]
