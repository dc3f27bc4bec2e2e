"""Pictures of heat maps over images: attention, similarity, and marked points."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

_OPACITY = 0.6
_LINES = (150, 150, 150)  # between cells
_SHOWN_SIDE = 448  # pixels of the shorter side of an enlarged image, about


def enlarged(image: Image.Image, side: int = _SHOWN_SIDE) -> Image.Image:
    """Return a small image at a whole multiple of its size, so that its pixels can be seen and clicked.

    Args:
        side: about the length of the shorter side in pixels.
    """
    factor = max(round(side / min(image.size)), 1)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def heat_over(
    image: np.ndarray, heat: Tensor, patch: tuple[int, int] | None = None, highest: float | None = None
) -> Image.Image:
    """Return an image under the colours of a heat map, dark for low and bright for high values.

    Args:
        image: (height, width, 3) of uint8.
        heat: (rows, columns), one value per patch.
        patch: (height, width) in pixels of patches that overlap; None where they lie side by side.
        highest: value of the brightest colour, where the darkest is 0; None for the map's own range.
    """
    size = (image.shape[0], image.shape[1])
    values = heat.float().cpu()[None, None]
    if patch is None:
        values = F.interpolate(values, size, mode="bilinear")
    else:
        # Centres of overlapping patches span less than the image, whose border gets the value of the outermost patch.
        strides, before, after = [], [], []
        for side, length, count in zip(size, patch, heat.shape, strict=True):
            stride = (side - length) // (count - 1) if count > 1 else length
            strides.append(stride)
            before.append((length - stride) // 2)
            after.append(side - count * stride - before[-1])
        values = F.interpolate(values, tuple(n * s for n, s in zip(heat.shape, strides, strict=True)), mode="bilinear")
        values = F.pad(values, (before[1], after[1], before[0], after[0]), mode="replicate")
    low, high = (values.min(), values.max()) if highest is None else (0, highest)
    levels = ((values - low) / max(float(high - low), 1e-12)).clamp(0, 1)[0, 0].numpy()
    painted = (1 - _OPACITY) * image + _OPACITY * 255 * colormaps["inferno"](levels)[..., :3]
    return Image.fromarray(painted.round().astype(np.uint8))


def marked(picture: Image.Image, points: Sequence[tuple[float, float]], colour: str) -> Image.Image:
    """Return a picture with a ring around each point.

    Args:
        points: (x, y) in fractions of width and height.
        colour: name of the ring's colour, which has a dark edge.
    """
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    radius = max(min(picture.size) // 32, 3)
    for x, y in points:
        centre = (x * picture.width, y * picture.height)
        for offset, fill in ((1, "black"), (0, colour), (-2, "black")):
            draw.ellipse(
                [(at - radius - offset) for at in centre] + [(at + radius + offset) for at in centre],
                outline=fill,
                width=3 if fill == colour else 1,
            )
    return picture


def without_cells(image: np.ndarray, kept: Tensor) -> Image.Image:
    """Return an image with its hidden cells black and thin lines between cells.

    Args:
        image: (height, width, 3) of uint8.
        kept: booleans (rows, columns), False where a cell is hidden.
    """
    rows, columns = kept.shape
    height, width = image.shape[:2]
    pixels = kept.repeat_interleave(height // rows, 0).repeat_interleave(width // columns, 1).numpy()
    picture = enlarged(Image.fromarray(np.where(pixels[..., None], image, 0).astype(np.uint8)))
    draw = ImageDraw.Draw(picture)
    for row in range(1, rows):
        y = row * picture.height // rows
        draw.line([(0, y), (picture.width, y)], _LINES)
    for column in range(1, columns):
        x = column * picture.width // columns
        draw.line([(x, 0), (x, picture.height)], _LINES)
    return picture
