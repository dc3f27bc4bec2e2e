"""A directory of image files: one directory per class, below one directory per split if there are any."""

from hf_vits.data.folders import READS, load_class_folders
from hf_vits.data.splits import Loaded
from hf_vits.recipe import DataRecipe

from .. import IMAGES, FileImages

__all__ = ["READS", "load"]


def load(recipe: DataRecipe) -> Loaded:
    """Load the files below data.path."""
    return load_class_folders(recipe, IMAGES, FileImages)
