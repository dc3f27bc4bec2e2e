"""Folders of images and of masks with the same names: data.path has images and masks (or annotations) for each split.

A split is a directory, with the directories images and masks, or a directory in each of these two; where there are no
splits, parts are held out. classes.txt in data.path names the classes, one per line, unless data.classes does.
"""

from hf_vits.recipe import DataRecipe

from ...images.masked import MaskedImages, find_splits, pair_files, read_classes
from ...sources import required_path
from ...splits import Loaded, choose_splits
from .. import as_loaded

READS = ("path", "splits", "skip_unreadable", "classes", "reduce_labels")


def load(recipe: DataRecipe) -> Loaded:
    """Load images and masks; each is decoded once to find those that cannot be used.

    Raises:
        ValueError: a mask does not fit its image or the classes.
        OSError: files are missing or cannot be decoded.
    """
    folder = required_path(recipe, "a directory with images and masks for each split")
    found = find_splits(folder)
    chosen = choose_splits(recipe, found)
    if not chosen:
        raise ValueError(f"{folder} has the splits {', '.join(found)}: name those to use by data.splits")
    splits = {kind: MaskedImages(*pair_files(*folders), [], recipe.reduce_labels) for kind, folders in chosen.items()}
    return as_loaded(folder.name, splits, recipe, read_classes(folder))
