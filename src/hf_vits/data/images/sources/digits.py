"""scikit-learn's 1,797 scanned digits, grey images of 8 x 8 pixels, as one split; inside the package, no download."""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from hf_vits.data.splits import Loaded, Split
from hf_vits.recipe import DataRecipe

from .. import ArrayImages

READS = ()


def load(recipe: DataRecipe) -> Loaded:
    """Load the digits, their 17 grey levels spread over 0 to 255."""
    digits: Any = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    split = Split(ArrayImages(pixels), digits.target.astype(np.int64))
    return Loaded("scikit-learn digits", [str(name) for name in digits.target_names], {"train": split})
