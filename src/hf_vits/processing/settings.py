"""Checks that the processors of images and of videos share."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from numbers import Real
from typing import Any

import torch
from huggingface_hub.dataclasses import type_validator, validate_typed_dict
from PIL import Image
from transformers.image_utils import SizeDict

# Pixels of a 4K frame, rounded up. To enlarge an image further takes seconds and hundreds of megabytes.
MOST_ENLARGED_PIXELS = 2**23


def check_fields(kwargs_class: type, fields: dict[str, Any]) -> None:
    """Raise an error that names the field where a value is not of the type that a processor's `valid_kwargs` has."""
    known = {name: value for name, value in fields.items() if name in kwargs_class.__annotations__}
    validate_typed_dict(kwargs_class, known)
    for name in ("size", "crop_size", "pad_size"):
        size = fields.get(name)
        is_size = size is None or isinstance(size, int | SizeDict | Mapping)
        if not (is_size or (isinstance(size, list | tuple) and len(size) == 2)):
            raise ValueError(f"{name} must be (height, width), a number or a dict of sides, got {size}")
    for name in ("image_mean", "image_std", "rescale_factor"):
        values = fields.get(name)
        for value in values if isinstance(values, list | tuple) else [] if values is None else [values]:
            check_number(name, value)
            if name == "image_std" and value <= 0:
                raise ValueError(f"image_std divides the pixels and must be above 0, got image_std={values}")
    if fields.get("device") is not None:
        as_device(fields["device"])


def channel_values(values: Sequence[float] | float) -> list[float]:
    """Return a processor's mean or std as a list, of one value where all channels have the same number."""
    return [values] if isinstance(values, float | int) else list(values)


def check_types(function: Callable, values: dict[str, Any]) -> None:
    """Raise TypeError or ValueError unless arguments of a function have the types of its annotations.

    A number may be whole where a float is expected, and must be finite. Arguments without annotation are not checked.
    """
    for name, parameter in _parameters(function):
        value, annotation = values.get(name), parameter.annotation
        if annotation is parameter.empty or parameter.kind is parameter.VAR_KEYWORD or name not in values:
            continue
        if isinstance(value, float) or annotation is float:
            check_number(name, value)
            annotation = annotation | int
        if isinstance(value, list):
            value = [float(item) if type(item) is int else item for item in value]
        type_validator(name, value, annotation)


@cache
def _parameters(function: Callable) -> tuple[tuple[str, inspect.Parameter], ...]:
    """Return a function's parameters by name; computed once, since every clip of a training run is checked."""
    return tuple(inspect.signature(function).parameters.items())


def check_number(name: str, value: Any) -> None:
    """Raise TypeError or ValueError unless `value` is a finite number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")


def as_device(device: torch.device | str) -> torch.device:
    """Return a device by its name; ValueError or TypeError, which name it, if there is none of that name."""
    if not isinstance(device, torch.device | str):
        raise TypeError(f"device must be the name of a device or a torch.device, got {device!r}")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be the name of one, such as cpu or cuda:0, got {device!r}: {error}") from error


STEPS = {"do_resize": ("size",), "do_center_crop": ("crop_size",), "do_rescale": ("rescale_factor",)}
STEPS |= {"do_normalize": ("image_mean", "image_std")}


def check_steps(**settings: Any) -> None:
    """Raise ValueError where a step that is switched on lacks a setting."""
    for switch, names in STEPS.items():
        for name in names:
            if settings.get(switch) and settings.get(name) is None:
                raise ValueError(f"{switch}=True needs {name}, got {name}=None: pass one, or {switch}=False")


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
    if not isinstance(convention, str) or convention not in conventions:
        raise ValueError(f"convention must be one of {', '.join(conventions)}, got {convention!r}")
    if rescale_factor is not None and not 0 < rescale_factor < math.inf:
        raise ValueError(f"rescale_factor must be above 0, got {rescale_factor!r}")


def check_channels(channels: int, image_mean: tuple[float, ...] | float, image_std: tuple[float, ...] | float) -> None:
    """Raise ValueError unless mean and std are single numbers or have a value for each channel."""
    for name, values in (("image_mean", image_mean), ("image_std", image_std)):
        if not isinstance(values, (int, float)) and len(values) not in (1, channels):
            raise ValueError(
                f"got {channels}-channel images, but {name} has {len(values)} values; "
                "pass do_convert_rgb=True for RGB, or a value for each channel"
            )
