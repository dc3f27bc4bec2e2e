"""A dataset that `datasets.load_dataset` loads, with a column of images and one of classes."""

import datasets

from hf_vits.data.columns import DATASETS, load_dataset_classes
from hf_vits.data.splits import Loaded
from hf_vits.data.tables import TARGET_KEYS
from hf_vits.recipe import DataRecipe

READS = (*DATASETS, "columns.image", *TARGET_KEYS)


def load(recipe: DataRecipe) -> Loaded:
    """Load the dataset data.path, a name on the Hub or a local directory."""
    return load_dataset_classes(recipe, "image", datasets.Image)
