"""Sizes of the convolutions that make fewer frames of a spectrogram; without torch, for configurations."""

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
    """Frames that come for each that leaves; `name` is a key of `CONVOLUTIONS`."""
    return math.prod(stride for _, stride in CONVOLUTIONS[name])


def convolved_length(name: str, length):
    """Frames that leave for `length` that come, a number or a tensor of them; below 1 where none does."""
    for kernel_size, stride in CONVOLUTIONS[name]:
        length = (length - kernel_size) // stride + 1
    return length


def smallest_length(name: str) -> int:
    """How many frames it takes for one to leave."""
    length = 1
    for kernel_size, stride in reversed(CONVOLUTIONS[name]):
        length = (length - 1) * stride + kernel_size
    return length
