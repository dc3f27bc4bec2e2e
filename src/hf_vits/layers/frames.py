"""Some of the frames of a clip."""

import numpy as np
import torch


@torch.compiler.assume_constant_result
def uniform_frames(num_frames: int, count: int) -> list[int]:
    """Which `count` of `num_frames` frames google-research/scenic takes, or all of them where they are not more.

    Evenly spaced, as far from either end as from one another (common_lib/video_utils.py, `sample_frames_uniformly`).
    The positions are single precision, which decides between two frames where a position is halfway; their number is
    rounded up from a quotient in double precision, and so sometimes one more.
    """
    if count >= num_frames:
        return list(range(num_frames))
    step = num_frames / (count + 1)
    positions = np.arange(step, num_frames, step, dtype=np.float32)
    return np.minimum(positions.round().astype(int), num_frames - 1).tolist()


def sample_uniformly(pixel_values: torch.Tensor, count: int) -> torch.Tensor:
    """(batch, frames, channels, height, width) to the frames that `uniform_frames` chooses of each clip."""
    frames = pixel_values.unbind(1)
    return torch.stack([frames[index] for index in uniform_frames(len(frames), count)], dim=1)
