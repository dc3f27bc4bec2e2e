"""Images with the boxes and masks of their objects; their sources are the modules of `sources/`.

The label of an image is a dict as `VitsDetectionProcessor` reads it: `image_id`, and `annotations` with the `bbox`
(x, y, width, height), `category_id`, the index of the class, and optionally `segmentation`, `area` and `iscrowd` of
each object.
"""

from collections.abc import Sequence

import numpy as np

from ..sources import Sources

SOURCES = Sources(f"{__name__}.sources")


def as_labels(annotations: Sequence[dict]) -> np.ndarray:
    """Return the annotations of images as an array (images,) of objects, as `Split` holds labels."""
    labels = np.empty(len(annotations), dtype=object)
    labels[:] = list(annotations)
    return labels
