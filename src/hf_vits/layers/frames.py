"""Sampling of frames from a clip."""

import numpy as np
import torch


@torch.compiler.assume_constant_result
def uniform_frames(num_frames: int, count: int) -> list[int]:
    """Return the indices of `count` evenly spaced frames of `num_frames`; all of them if `count` is not smaller.

    The ends are as far away as two samples from each other, as in google-research/scenic (common_lib/video_utils.py,
    `sample_frames_uniformly`). Two details of its arithmetic are kept: positions are in single precision, which
    decides ties in rounding; their number comes from a quotient in double precision, so that for some lengths there is
    one frame more.
    """
    if count >= num_frames:
        return list(range(num_frames))
    step = num_frames / (count + 1)
    positions = np.arange(step, num_frames, step, dtype=np.float32)
    return np.minimum(positions.round().astype(int), num_frames - 1).tolist()


def sample_uniformly(pixel_values: torch.Tensor, count: int) -> torch.Tensor:
    """Select the frames `uniform_frames` of clips (batch, frames, channels, height, width)."""
    frames = pixel_values.unbind(1)
    return torch.stack([frames[index] for index in uniform_frames(len(frames), count)], dim=1)
