"""Inflation of 2-d convolution kernels to 3-d, to initialise a video model from an image model."""

from collections.abc import Callable

import torch
from torch import nn


def inflate(kernel: torch.Tensor, frames: int, rule: str) -> torch.Tensor:
    """Return kernels (output, input, height, width) inflated to (output, input, frames, height, width).

    rule: "central_frame" puts the kernel in the central frame and zeros elsewhere; "average" divides it evenly among
        the frames; "repeat" copies it to every frame; "rank_pooling" weights it by approximate rank pooling, equation
        3 of Bilen et al., "Action Recognition with Dynamic Image Networks", arXiv 1612.00738, over the frames' number.

    Raises ValueError for another rule.
    """
    if rule not in FRAME_WEIGHTS:
        raise ValueError(f"inflation must be one of {', '.join(FRAME_WEIGHTS)}, got {rule!r}")
    weights = FRAME_WEIGHTS[rule](frames).to(kernel.device)
    return kernel[:, :, None] * weights[:, None, None]


def central_frame(frames: int) -> torch.Tensor:
    return nn.functional.one_hot(torch.tensor(frames // 2), frames)


def average(frames: int) -> torch.Tensor:
    return torch.full((frames,), 1 / frames)


def repeat(frames: int) -> torch.Tensor:
    return torch.ones(frames)


def rank_pooling(frames: int) -> torch.Tensor:
    rank = torch.arange(1, frames + 1, dtype=torch.float64)
    harmonic = (1 / rank).cumsum(0)
    left = harmonic[-1] - harmonic + 1 / rank
    return (2 * (frames - rank + 1) - (frames + 1) * left) / frames


FRAME_WEIGHTS: dict[str, Callable[[int], torch.Tensor]] = {
    "central_frame": central_frame,
    "average": average,
    "repeat": repeat,
    "rank_pooling": rank_pooling,
}
