"""Conversion of images to tensors of pixels, with checks."""

import math

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format

from .opening import eight_bits, straight

RGB_SOURCES = (1, 3, 4)  # channels from which RGB can be made: grey, RGB, RGB with alpha


def to_pixels(
    image: Image.Image | np.ndarray | torch.Tensor,
    to_rgb: bool,
    channel_dimension: str | ChannelDimension | None = None,
) -> torch.Tensor:
    """Return the image as (channels, height, width), uint8 where it holds integers and float32 where it holds floats.

    image: a PIL image, or an array or tensor of shape (height, width), (height, width, channels) or (channels,
    height, width). Integers must lie in 0..255, apart from unsigned 16-bit images, which keep their high byte as
    when TensorFlow (and Pillow, for colour) reads a 16-bit PNG file. Levels of a PIL image that was read from a file
    are scaled as `opening.eight_bits` says.
    to_rgb: grey becomes three equal channels and alpha is dropped, as `Image.convert("RGB")` does and the originals'
    decoders do. EXIF orientation is not applied: `opening.open_image` does.

    Raises TypeError for a wrong type or dtype, ValueError for a shape or values that an image cannot have.
    """
    if isinstance(image, Image.Image):
        image, channel_dimension = _from_pil(image, to_rgb), ChannelDimension.LAST
    if isinstance(image, np.ndarray):
        image = _from_numpy(image)
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"expected a PIL image, a numpy array or a torch tensor, got {type(image).__name__}")
    image = _to_uint8_or_float32(_channels_first(image, channel_dimension))
    return _to_rgb(image) if to_rgb else image


def check_scale(image: torch.Tensor, rescale_factor: float) -> None:
    """Raise ValueError if a float image is not in the range 0 to 1/rescale_factor, which rescaling maps to 0 to 1."""
    if not image.is_floating_point():
        return
    white = 1 / rescale_factor
    low, high = (bound.item() for bound in image.aminmax())
    if low < 0 or high > white * (1 + 1e-6):
        raise ValueError(
            f"got float pixels from {low:g} to {high:g}, but rescaling by {rescale_factor:g} expects 0 to {white:g}; "
            "pass do_rescale=False for values of another range, or clip them"
        )
    if 0 < high <= 1 < white:
        raise ValueError(
            f"got float pixels from {low:g} to {high:g}, which look rescaled already, but rescaling by "
            f"{rescale_factor:g} expects 0 to {white:g}; pass do_rescale=False, or multiply by {white:g}"
        )


def _from_pil(image: Image.Image, to_rgb: bool) -> np.ndarray:
    if image.format:
        image = eight_bits(image)
    # In memory: Pillow's own conversion cuts 16 and 32 bit off at 255; their values are judged as an array's are.
    if image.mode.startswith(("I", "F")):
        return np.array(image)
    if to_rgb:
        return np.array(straight(image).convert("RGB"))
    if image.mode in ("1", "P", "PA"):
        raise ValueError(
            f"an image of mode {image.mode!r} holds no pixel values without conversion; "
            'pass do_convert_rgb=True, or convert it with image.convert("L") or image.convert("RGB")'
        )
    return np.array(image)


def _from_numpy(image: np.ndarray) -> torch.Tensor:
    if image.dtype.kind not in "uif" or image.dtype.itemsize > 8:
        raise TypeError(
            f"expected pixels as integers or floats, got a numpy array of dtype {image.dtype}; "
            "convert it, for example with .astype(numpy.uint8)"
        )
    return torch.from_numpy(np.require(image, image.dtype.newbyteorder("="), ["C_CONTIGUOUS", "WRITEABLE"]))


def _channels_first(image: torch.Tensor, channel_dimension: str | ChannelDimension | None) -> torch.Tensor:
    shape = tuple(image.shape)
    if image.ndim not in (2, 3):
        raise ValueError(
            f"expected an image of shape (height, width), (height, width, channels) or (channels, height, width), "
            f"got shape {shape}"
        )
    if 0 in shape:
        raise ValueError(f"expected an image of at least one pixel, got shape {shape}")
    if image.ndim == 2:
        return image.unsqueeze(0)
    if channel_dimension is None:
        if shape[0] not in RGB_SOURCES and shape[-1] not in RGB_SOURCES:
            raise ValueError(
                f"expected 1, 3 or 4 channels first or last, got shape {shape}; "
                'if it has another number of channels, pass input_data_format="channels_first" or "channels_last"'
            )
        channel_dimension = infer_channel_dimension_format(image, num_channels=RGB_SOURCES)
    return image.movedim(-1, 0) if ChannelDimension(channel_dimension) is ChannelDimension.LAST else image


def _to_uint8_or_float32(image: torch.Tensor) -> torch.Tensor:
    if image.dtype == torch.uint8:
        return image
    if image.dtype == torch.uint16:
        return (image.to(torch.int32) >> 8).to(torch.uint8)
    if image.dtype == torch.bool or image.is_complex() or image.is_quantized:
        raise TypeError(
            f"expected pixels as integers or floats, got a tensor of {image.dtype}; "
            "convert it, for example a mask with .to(torch.uint8) * 255"
        )
    if image.is_floating_point():
        image = image.to(torch.float32)
        low, high = (bound.item() for bound in image.aminmax())  # either is NaN if any pixel is
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(
                f"got NaN or infinite pixels in a float image of shape {tuple(image.shape)}; "
                "clean it first, for example with torch.nan_to_num"
            )
        return image
    low, high = (bound.item() for bound in image.to(torch.int64).aminmax())
    if low < 0 or high > 255:
        raise ValueError(
            f"got {image.dtype} pixels from {low} to {high}, expected 0 to 255; "
            "scale them to 8 bit (unsigned 16-bit images are scaled here)"
        )
    return image.to(torch.uint8)


def _to_rgb(image: torch.Tensor) -> torch.Tensor:
    channels = image.shape[0]
    if channels not in RGB_SOURCES:
        raise ValueError(
            f"cannot make RGB of {channels} channels, only of 1 (grey), 3 (RGB) or 4 (RGB with alpha); pass "
            "do_convert_rgb=False with as many values in image_mean and image_std to use all channels as they are"
        )
    return image.expand(3, -1, -1) if channels == 1 else image[:3]
