"""Pictures of what a model selects of its input."""

import numpy as np
from PIL import Image, ImageDraw

_COLOUR = (255, 170, 0)


def outline(image: np.ndarray, boxes: np.ndarray) -> Image.Image:
    """Return an image with frames around boxes.

    Args:
        image: (height, width[, 3]), from 0 to 1.
        boxes: (boxes, 4), left, top, right and bottom in pixels.
    """
    picture = Image.fromarray(np.rint(255 * image).astype(np.uint8)).convert("RGB")
    draw, width = ImageDraw.Draw(picture), max(round(max(picture.size) / 170), 1)
    for left, top, right, bottom in np.asarray(boxes).tolist():
        # Frames stay inside the picture, also those of patches that reach beyond it.
        corners = (max(left, 0), max(top, 0), min(right, picture.width) - 1, min(bottom, picture.height) - 1)
        draw.rectangle(corners, outline=_COLOUR, width=width)
    return picture
