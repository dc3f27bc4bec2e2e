"""Image corruptions and rotations of SiT, arXiv 2104.03602 (Sara-Ahmed/SiT).

Images are tensors (channels, height, width) and are changed in place. `generator` is numpy's legacy random generator,
as in the originals; noise comes from torch's generator. SiT's first generation (July 2021, engine.py) draws blocks by
`draw_block`, the second and third (datasets/datasets_utils.py, "GMML") by `draw_aligned_block`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

Block = tuple[slice, slice, slice]

# Of the first generation:
SMALLEST_SIDE = 0.05  # smallest side of a block, as a fraction of the image's side
LARGEST_SIDE = 0.25  # largest side of a block of noise or of another image
LARGEST_FRACTION = 0.3  # largest fraction of the pixels that these blocks cover
LARGEST_KERNEL = 15  # largest kernel of the blur, in pixels
LARGEST_DEVIATION = 5.0  # largest standard deviation of the blur, in pixels, to which 0.1 is added


def rotate(image: Tensor, quarter_turns: int, clockwise: bool = True) -> Tensor:
    """Rotate (..., height, width) by 0 to 3 quarter turns, the label of the rotation task.

    SiT's first generation rotates clockwise, the second counter-clockwise.
    """
    return image.rot90(-quarter_turns if clockwise else quarter_turns, (-2, -1))


# The first generation


def draw_block(
    image: Tensor, generator: np.random.RandomState, largest: float = 1.0, smallest: float = SMALLEST_SIDE
) -> Block:
    """Draw a block, clipped at the border; its sides are `smallest` to `largest`, as fractions of the image's."""
    height, width = image.shape[-2:]
    low = int(smallest * height), int(smallest * width)
    top, left = generator.randint(0, height - low[0]), generator.randint(0, width - low[1])
    bottom = min(generator.randint(low[0], int(largest * height)) + top, height)
    right = min(generator.randint(low[1], int(largest * width)) + left, width)
    return slice(None), slice(top, bottom), slice(left, right)


def gray_block(image: Tensor, generator: np.random.RandomState, smallest: float = SMALLEST_SIDE) -> None:
    """Replace a random block by the mean of its channels."""
    block = draw_block(image, generator, smallest=smallest)
    image[block] = image[block].mean(dim=0, keepdim=True)


def blur_block(
    image: Tensor,
    generator: np.random.RandomState,
    largest_kernel: int = LARGEST_KERNEL,
    largest_deviation: float = LARGEST_DEVIATION,
    smallest: float = SMALLEST_SIDE,
) -> None:
    """Blur a random block with a Gaussian of random size.

    The kernel is reduced to the largest that fits the block; the original fails there, which happens for images below
    about 160 pixels.
    """
    kernel = 2 * (generator.randint(3, largest_kernel + 1) // 2) + 1
    deviation = generator.rand() * largest_deviation + 0.1
    block = draw_block(image, generator, smallest=smallest)
    height, width = image[block].shape[-2:]
    # Reflection needs more pixels than it pads.
    sizes = [min(kernel, 2 * side - 1) for side in (width, height)]
    if min(sizes) > 0:
        image[block] = gaussian_blur(image[block], sizes, [deviation, deviation])


def replace_blocks(
    image: Tensor,
    generator: np.random.RandomState,
    other: Tensor | None = None,
    noise: torch.Generator | None = None,
    largest_fraction: float = LARGEST_FRACTION,
    largest_side: float = LARGEST_SIDE,
    smallest: float = SMALLEST_SIDE,
) -> None:
    """Replace blocks by those of `other`, or by normal noise, up to a fraction of the pixels; overlaps count twice."""
    wanted = generator.uniform(0, largest_fraction) * image[0].numel()
    taken = 0
    while taken < wanted:
        block = draw_block(image, generator, largest_side, smallest)
        image[block] = normal_like(image[block], noise) if other is None else other[block]
        taken += image[block][0].numel()


def normal_like(block: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(block.shape, dtype=block.dtype, device=block.device, generator=generator)


def corrupt(
    images: Tensor, generators: Sequence[np.random.RandomState], noises: Sequence[torch.Generator | None]
) -> Tensor:
    """Apply all corruptions of the first generation: gray, blur, noise, and blocks of another image of the batch.

    Args:
        images: (batch, channels, height, width); not changed.
        generators, noises: random generators of each image.

    Returns:
        Corrupted copies. Blocks of another image are taken from its copy in its current state of corruption.
    """
    corrupted = images.clone()
    for index, (image, generator, noise) in enumerate(zip(corrupted, generators, noises, strict=True)):
        gray_block(image, generator)
        blur_block(image, generator)
        replace_blocks(image, generator, noise=noise)
        other = generator.randint(0, len(images))
        if other != index:
            replace_blocks(image, generator, other=corrupted[other])
    return corrupted


# The second and third generation


def draw_aligned_block(image: Tensor, generator: np.random.RandomState, largest: float, align: int) -> Block:
    """Draw a block with corners and sides rounded to `align` pixels; rounding may leave it empty.

    Args:
        largest: largest side, as a fraction of the image's side.
    """
    height, width = image.shape[-2:]
    top, left = (generator.randint(0, side - align) // align * align for side in (height, width))
    sides = []
    for side, start in ((height, top), (width, left)):
        drawn = min(generator.randint(align, int(side * largest)), side - start)
        sides.append(round(drawn / align) * align)
    return slice(None), slice(top, top + sides[0]), slice(left, left + sides[1])


def drop_blocks(
    image: Tensor,
    generator: np.random.RandomState,
    kinds: Sequence[Literal["noise", "zeros", "shuffle"]] = ("zeros",),
    largest_fraction: float = 0.5,
    align: int = 1,
    largest_side: float = 0.3,
    other: Tensor | None = None,
    noise: torch.Generator | None = None,
) -> Tensor:
    """Corrupt random blocks that cover a random fraction of the pixels.

    Args:
        kinds: contents of the blocks, one kind drawn for all of them: normal noise, zeros, or another part of the
            image ("shuffle").
        largest_fraction: the fraction of the pixels is drawn between min(1/2, largest_fraction) and largest_fraction.
        align: grid in pixels that blocks are rounded to; with the patch size, whole patches are corrupted.
        largest_side: largest side of a block, as a fraction of the image's side.
        other: another image, from which the blocks are taken instead of `kinds`.
        noise: generator of the normal noise.

    Returns:
        (height, width), True where a pixel was corrupted.
    """
    check_blocks(image, align, largest_side)
    wanted = generator.uniform(min(0.5, largest_fraction), largest_fraction) * image[0].numel()
    kind = generator.choice(list(kinds))
    # A numpy array, since many small slices are faster there than in torch.
    mask = np.zeros(image.shape[-2:], dtype=bool)
    taken = 0
    while taken < wanted:
        block = draw_aligned_block(image, generator, largest_side, align)
        if other is None and kind == "noise":
            image[block] = normal_like(image[block], noise)
        elif other is None and kind == "shuffle":
            image[block] = image[draw_source(image, block, generator, align)].clone()
        place = mask[block[1:]]
        taken += place.size - np.count_nonzero(place)
        place[:] = True
    corrupted = torch.from_numpy(mask).to(image.device)
    if other is not None:
        image.copy_(torch.where(corrupted, other, image))
    elif kind == "zeros":
        image.masked_fill_(corrupted, 0)
    return corrupted


def check_blocks(image: Tensor, align: int, largest_side: float) -> None:
    """Raise ValueError unless blocks of more than `align` pixels fit in the image."""
    for side in image.shape[-2:]:
        if align < 1 or int(side * largest_side) <= align:
            raise ValueError(
                f"blocks of {align} pixels up to {largest_side:.0%} of a side do not fit an image of "
                f"{tuple(image.shape[-2:])}: choose a smaller `align`, of at least 1"
            )


def draw_source(image: Tensor, block: Block, generator: np.random.RandomState, align: int) -> Block:
    """Draw another block of the same size."""
    slices = []
    for side, part in zip(image.shape[-2:], block[1:], strict=True):
        size = part.stop - part.start
        start = generator.randint(0, side - size) // align * align
        slices.append(slice(start, start + size))
    return slice(None), *slices


def mix_blocks(
    images: Tensor,
    corrupted: Tensor,
    masks: Tensor,
    replaced: Sequence[bool],
    generators: Sequence[np.random.RandomState],
    largest_fraction: float = 0.3,
    align: int = 1,
) -> tuple[Tensor, Tensor]:
    """Corrupt some images of a batch by blocks of other clean images, in place of their earlier corruption.

    Args:
        images, corrupted: (batch, channels, height, width), clean images and the results of `drop_blocks`.
        masks: (batch, height, width), the masks of `corrupted`.
        replaced: for each image whether to corrupt it this way; the original draws it with probability 1/2.
        generators: random generators of each image.
        largest_fraction, align: as in `drop_blocks`.

    Returns:
        Corrupted images and masks; the arguments are not changed.
    """
    corrupted, masks = corrupted.clone(), masks.clone()
    for index, (image, again, generator) in enumerate(zip(images, replaced, generators, strict=True)):
        other = images[generator.randint(0, len(images))]
        if again:
            corrupted[index] = image
            masks[index] = drop_blocks(
                corrupted[index], generator, largest_fraction=largest_fraction, align=align, other=other
            )
    return corrupted, masks
