"""Random crops that record what part of the image they show."""

import math
import random
from collections.abc import Sequence

from PIL import Image
from torchvision.transforms import v2 as transforms

Crop = tuple[int, int, int, int]  # top, left, height, width


def draw_crop(size: tuple[int, int], scale: Sequence[float], ratio: Sequence[float], generator: random.Random) -> Crop:
    """Return a random part of an image as (top, left, height, width) in pixels.

    The same draws as Alxead/SFC (code/utils/transform_coord.py) with the same generator: ten tries, then the largest
    central part with a ratio in the range.

    Args:
        size: (height, width) of the image.
        scale: smallest and largest fraction of the area.
        ratio: smallest and largest width divided by height.
    """
    height, width = size
    for _ in range(10):
        area = generator.uniform(*scale) * height * width
        aspect = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            top, left = generator.randint(0, height - rows), generator.randint(0, width - columns)
            return top, left, rows, columns
    rows = min(height, round(width / min(ratio))) if width / height < min(ratio) else height
    columns = min(width, round(height * max(ratio))) if width / height > max(ratio) else width
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def crop_box(crop: Crop, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a crop as fractions of the image's width and height.

    The centres of the first and last pixel are 0 and 1, as in SFC.

    Args:
        size: (height, width) of the image.
    """
    (top, left, rows, columns), (height, width) = crop, (max(side - 1, 1) for side in size)
    return left / width, top / height, (left + columns - 1) / width, (top + rows - 1) / height


class RecordedCrops:
    """Draws the views of an image and keeps their boxes, see `crop_box`."""

    def __init__(self, image: Image.Image, generator: random.Random):
        self.size, self.generator = (image.height, image.width), generator
        self.boxes: list[tuple[float, float, float, float]] = []

    def draw(self, crop: transforms.RandomResizedCrop) -> Crop:
        """Return top, left, height and width of the next view."""
        drawn = draw_crop(self.size, crop.scale, crop.ratio, self.generator)
        self.boxes.append(crop_box(drawn, self.size))
        return drawn
