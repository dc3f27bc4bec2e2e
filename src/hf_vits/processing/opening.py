"""Opening image files: upright and with 8 bits per channel, the same for training, evaluation and prediction.

The pixels of an image do not depend on who opened it: the image processor given a path, a folder of a recipe and
`hf-vits predict` all call `open_image`, and the processor treats the bits of an image that its caller opened alike.

- EXIF orientation is applied, as transformers' `load_image` and `datasets` do. The processor does not apply it to an
  image that its caller opened: there the caller decides.
- Grey levels of more than 8 bits become levels of 0 to 255, see `eight_bits`; Pillow's `convert` would clip them.
- All else is Pillow's `convert`, as in torchvision, timm and transformers: CMYK and palettes become RGB, and alpha is
  dropped, so that a transparent pixel shows the colour stored under it.
- Of an animation the first frame is read.
"""

import base64
import binascii
import io
import os
import struct
from typing import BinaryIO

import numpy as np
from huggingface_hub.utils import httpx
from PIL import ExifTags, Image

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = [_UPRIGHT[orientation] for orientation in (5, 6, 7, 8)]
# Where the metadata of an image may hold its orientation.
_EXIF_KEYS = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
# Formats whose 32-bit mode of Pillow holds 16-bit levels.
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
_TIMEOUT = 60.0  # seconds in which a server must answer


def open_image(source: str | os.PathLike, mode: str | None = None) -> Image.Image:
    """Return the image in a file, upright and with 8 bits per channel.

    Args:
        source: path, http(s) URL, or a base64 string, with or without its data:image/ prefix.
        mode: Pillow's mode to convert to, such as "RGB" or "L". None: as stored.

    Raises:
        OSError: there is no image, or it is damaged or larger than Pillow allows.
        ValueError: `source` is none of these, or the image's levels have no known range.
    """
    name = os.fspath(source)
    file = _file(name)
    try:
        with Image.open(file) as image:
            image.load()
    except Exception as error:  # damaged bytes make Pillow's readers raise nearly every type
        raise OSError(f"cannot open the image {name[:200]}: {str(error) or type(error).__name__}") from error
    try:
        turn = _turn(image)
        image = eight_bits(image)
        if turn is not None:
            image = image.transpose(turn)
            for key in _EXIF_KEYS:  # so that it is not turned again
                image.info.pop(key, None)
        return image if mode is None else to_mode(image, mode)
    except ValueError as error:
        raise ValueError(f"{name[:200]}: {error}") from error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the (width, height) that `open_image` gives of an image that Pillow has opened, before it is decoded."""
    width, height = image.size
    return (height, width) if _turn(image) in _SIDEWAYS else (width, height)


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return an image in Pillow's `mode`, "RGB" or "L", with `eight_bits` before Pillow's own conversion."""
    return straight(eight_bits(image)).convert(mode)


def straight(image: Image.Image) -> Image.Image:
    """Return an image whose grey levels are not multiplied by alpha; Pillow converts that mode to no other but LA."""
    return image.convert("LA") if image.mode == "La" else image


def eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits per channel; grey levels of 16 bits, 32 bits or in floating point become mode "L".

    16-bit levels keep their high byte, as Pillow reads the other 16-bit formats: 65535 becomes 255. A file of 32-bit
    integers or floats does not say what white is, so the range is the smallest one that holds all its levels: 0 to 1
    (floats), 0 to 255, or 0 to 65535. An image in memory, which comes from no file, has levels of 0 to 255.

    Raises ValueError for other levels.
    """
    if image.mode.startswith("I;16"):
        return _high_byte(np.asarray(image))
    if image.mode not in ("I", "F"):
        return image
    levels = np.asarray(image)
    if image.mode == "I" and image.format in _SIXTEEN_BIT_FORMATS:
        return _high_byte(levels)
    low, high = (float(levels.min()), float(levels.max())) if levels.size else (0.0, 0.0)
    if low >= 0 and high <= 1 and image.mode == "F" and image.format:
        return _rounded(levels * np.float32(255))
    if low >= 0 and high <= 255:
        return _rounded(levels)
    if low >= 0 and high <= 65535 and image.format:
        return _high_byte(levels)
    kind = "float32" if image.mode == "F" else "int32"
    ranges = ("0 to 1, " if image.mode == "F" else "") + "0 to 255 or 0 to 65535" if image.format else "0 to 255"
    raise ValueError(f"got {kind} pixels from {low:g} to {high:g}, expected {ranges}; scale them to 8 bit")


def _high_byte(levels: np.ndarray) -> Image.Image:
    return Image.fromarray((levels.astype(np.int32) >> 8).clip(0, 255).astype(np.uint8))


def _rounded(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what turns a loaded image upright, from its EXIF orientation; damaged metadata are ignored."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return None


def _file(source: str) -> BinaryIO:
    if source.startswith(("http://", "https://")):
        try:
            answer = httpx.get(source, follow_redirects=True, timeout=_TIMEOUT).raise_for_status()
        except httpx.HTTPError as error:
            raise OSError(f"cannot download {source}: {error}") from error
        return io.BytesIO(answer.content)
    if os.path.isdir(source):
        raise IsADirectoryError(f"expected an image file, got the folder {source}")
    if os.path.exists(source):
        # Opened here, as Pillow 13 maps TIFF files that it opens by path to memory, with the rows of a turned picture
        # taken for its columns.
        return open(source, "rb")
    encoded = source.partition(",")[2] if source.startswith("data:image/") else source
    try:
        return io.BytesIO(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"expected a valid path, URL or base64 string of an image, got {source[:200]!r}") from error
