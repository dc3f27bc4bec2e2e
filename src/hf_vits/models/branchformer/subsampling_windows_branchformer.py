"""Sizes of the convolutions that subsample spectrograms; imports no torch, since configurations use it."""

import math

# (kernel size, stride) of each convolution, along time and frequency alike
# (espnet/nets/pytorch_backend/transformer/subsampling.py).
CONVOLUTIONS = {
    "conv2d1": ((3, 1), (3, 1)),
    "conv2d2": ((3, 2), (3, 1)),
    "conv2d4": ((3, 2), (3, 2)),
    "conv2d6": ((3, 2), (5, 3)),
    "conv2d8": ((3, 2), (3, 2), (3, 2)),
}


def subsampling_factor(name: str) -> int:
    """Return the number of input frames per output frame; `name` is a key of `CONVOLUTIONS`."""
    return math.prod(stride for _, stride in CONVOLUTIONS[name])


def convolved_length(name: str, length):
    """Return the number of output frames for `length` input frames (int or tensor); below 1 for too few frames."""
    for kernel_size, stride in CONVOLUTIONS[name]:
        length = (length - kernel_size) // stride + 1
    return length


def smallest_length(name: str) -> int:
    """Return the smallest number of input frames that gives an output frame."""
    length = 1
    for kernel_size, stride in reversed(CONVOLUTIONS[name]):
        length = (length - 1) * stride + kernel_size
    return length
