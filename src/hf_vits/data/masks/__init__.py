"""Images with a mask of classes each, for semantic segmentation; their sources are the modules of `sources/`.

An input of a split is a pair, an image and its mask (height, width) of class indices, 255 where nothing is known; its
label is its number.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hf_vits.recipe import DataRecipe

from ..images.masked import MaskedImages, check, read_names, with_classes
from ..sources import Sources
from ..splits import Loaded, Split

SOURCES = Sources(f"{__name__}.sources")


def as_loaded(
    name: str, splits: Mapping[str, MaskedImages], recipe: DataRecipe, known: Sequence[str] | None = None
) -> Loaded:
    """Return images with masks, each read once to check it, as a source returns them.

    Args:
        known: names of the classes by the data, which data.classes replaces.
    """
    named = with_classes(splits, name, class_names(recipe) or known)
    found = {}
    for kind, kept in check(named, recipe.skip_unreadable).items():
        whole = Split(named[kind], numbers(len(named[kind])))
        found[kind] = whole if len(kept) == len(whole) else whole.subset(kept)
    return Loaded(name, named["train"].class_names, found)


def numbers(count: int) -> np.ndarray:
    """Return the numbers of images as `Split` holds labels, as objects, since they are no classes."""
    return np.arange(count).astype(object)


def class_names(recipe: DataRecipe) -> list[str] | None:
    """Return the names of the classes by data.classes: a list, or a file with a name per line; None without.

    Raises FileNotFoundError where there is no such file.
    """
    if recipe.classes is None or not isinstance(recipe.classes, str):
        return recipe.classes
    path = Path(recipe.classes)
    if not path.is_file():
        raise FileNotFoundError(f"data.classes: there is no file {path}, with the name of a class per line")
    return read_names(path)
