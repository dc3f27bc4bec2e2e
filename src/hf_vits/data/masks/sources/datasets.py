"""Datasets of `datasets` with a column of images and one of masks, on the Hub or in local files."""

from collections.abc import Sequence

import datasets
from PIL import Image

from hf_vits.recipe import DataRecipe

from ...columns import input_column, load_dataset_splits
from ...images.masked import MaskedImages
from ...splits import ColumnInputs, Loaded
from ...tables import column_name
from .. import as_loaded

READS = (
    "path",
    "config",
    "splits",
    "skip_unreadable",
    "classes",
    "reduce_labels",
    "columns.image",
    "columns.label",
)
# Usual names of the column of masks.
_MASKS = ("label", "mask", "annotation", "labels", "masks", "annotations", "segmentation", "segmentation_mask")


class Column(Sequence[Image.Image]):
    """The images in a column of a dataset, decoded when they are asked for."""

    def __init__(self, dataset: datasets.Dataset, column: str):
        self.inputs, self.count = ColumnInputs(dataset, column), len(dataset)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image.Image:
        return self.inputs[int(index)]


def load(recipe: DataRecipe) -> Loaded:
    """Load images and masks; each is decoded once to find those that cannot be used.

    Raises:
        ValueError: there are no such columns, or a mask does not fit its image or the classes.
        OSError: the dataset cannot be loaded.
    """
    splits = {}
    for kind, dataset in load_dataset_splits(recipe).items():
        image = input_column(recipe, dataset, "image", datasets.Image)
        mask = column_name(recipe, dataset.features, "label", _MASKS)
        if mask == image or not isinstance(dataset.features[mask], datasets.Image):
            raise ValueError(
                f"data.columns.label: column {mask!r} of {recipe.path} is no second column of images; name the column "
                "of masks"
            )
        columns = Column(dataset, image), Column(dataset, mask)
        splits[kind] = MaskedImages(*columns, [], recipe.reduce_labels)
    return as_loaded(str(recipe.path), splits, recipe)
