"""Digits and garments on photographs with their masks, made here.

data.path and data.config are those of the scenes of image classification; the background is a class too.
"""

from hf_vits.recipe import DataRecipe

from ...images.masked import load_masked
from ...images.sources.scenes import folder_of
from ...splits import Loaded
from .. import as_loaded

READS = ("path", "config")


def load(recipe: DataRecipe) -> Loaded:
    """Load the scenes, which are written at first; ValueError for another form of data.config."""
    splits = load_masked(folder_of(recipe))
    return as_loaded("scenes", splits, recipe, splits["train"].class_names)
