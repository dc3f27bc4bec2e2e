"""Checks that the processors of images and of videos share."""

import math
from numbers import Real
from typing import Any

from PIL import Image
from transformers.image_utils import SizeDict

# Pixels of a 4K frame, rounded up. To enlarge an image further takes seconds and hundreds of megabytes.
MOST_ENLARGED_PIXELS = 2**23


def check_size(name: str, size: SizeDict | None, allowed: list[set[str]]) -> None:
    """Raise ValueError unless `size` is None or has the keys of one of the `allowed` forms, in whole pixels."""
    if size is None:
        return
    sides = dict(size)
    if set(sides) not in allowed or not all(isinstance(side, int) and side > 0 for side in sides.values()):
        forms = " or ".join(str(dict.fromkeys(sorted(keys), "pixels")) for keys in allowed)
        raise ValueError(f"{name} must be {forms}, in whole pixels above 0, got {sides}")
    if Image.MAX_IMAGE_PIXELS is not None and math.prod(sides.values()) > Image.MAX_IMAGE_PIXELS:
        raise ValueError(
            f"{name} must have at most PIL.Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS} pixels, got {sides}"
        )


def check_enlarged(size: tuple[int, int], target: tuple[int, int], shortest_edge: int) -> None:
    """Raise ValueError if resizing the shortest edge enlarges an image of extreme shape beyond a 4K frame.

    size, target: (height, width) before and after.
    """
    if math.prod(target) > max(MOST_ENLARGED_PIXELS, math.prod(size)):
        raise ValueError(
            f"resizing the shorter side of an image of {size[0]} x {size[1]} pixels to {shortest_edge} would make it "
            f"{target[0]} x {target[1]}, more than {MOST_ENLARGED_PIXELS} pixels; crop it first, or pass "
            'size={"height": ..., "width": ...}'
        )


def check_arithmetic(convention: str, conventions: tuple[str, ...], rescale_factor: float | None) -> None:
    """Raise ValueError unless `convention` is one of `conventions` and `rescale_factor` is None or above 0."""
    if convention not in conventions:
        raise ValueError(f"convention must be one of {', '.join(conventions)}, got {convention!r}")
    if rescale_factor is not None and not (isinstance(rescale_factor, Real) and 0 < rescale_factor < math.inf):
        raise ValueError(f"rescale_factor must be above 0, got {rescale_factor!r}")


def check_normalization(do_normalize: bool | None, image_mean: Any, image_std: Any) -> None:
    """Raise ValueError or TypeError if images are to be normalised without finite means and deviations above 0."""
    if not do_normalize:
        return
    for name, values in (("image_mean", image_mean), ("image_std", image_std)):
        numbers = list(values) if isinstance(values, list | tuple) else [values]
        if not numbers or not all(isinstance(number, Real) for number in numbers):
            raise TypeError(f"{name} must be a number or one per channel where do_normalize is set, got {values!r}")
        if not all(math.isfinite(number) and (number > 0 or name == "image_mean") for number in numbers):
            raise ValueError(f"{name} must be finite{' and above 0' * (name == 'image_std')}, got {values!r}")


def check_channels(channels: int, image_mean: tuple[float, ...] | float, image_std: tuple[float, ...] | float) -> None:
    """Raise ValueError unless mean and std are single numbers or have a value for each channel."""
    for name, values in (("image_mean", image_mean), ("image_std", image_std)):
        if not isinstance(values, (int, float)) and len(values) not in (1, channels):
            raise ValueError(
                f"got {channels}-channel images, but {name} has {len(values)} values; "
                "pass do_convert_rgb=True for RGB, or a value for each channel"
            )
