"""Digits and garments on photographs, made here; the label of a scene is the class of which it shows most.

Garments are shown if data.path names the directory of Fashion-MNIST's four idx files. With `data.config: coarse` there
are two classes, digits and garments.
"""

from pathlib import Path

import numpy as np

from hf_vits.data.splits import Loaded, Split
from hf_vits.data.synthetic.scenes import scenes
from hf_vits.recipe import DataRecipe

from .. import FileImages
from ..masked import load_masked, read_mask

READS = ("path", "config")


def load(recipe: DataRecipe) -> Loaded:
    """Load the scenes of `data.synthetic.scenes.scenes`, which are written at first."""
    found = load_masked(folder_of(recipe))
    names = found["train"].class_names[1:]
    splits = {
        kind: Split(FileImages(images.images), np.array([_largest(path, len(names)) for path in images.masks]))
        for kind, images in found.items()
    }
    return Loaded("scenes", names, splits)


def folder_of(recipe: DataRecipe) -> Path:
    """Return the folder with the recipe's scenes and their masks, which are written at first."""
    if recipe.config not in (None, "coarse"):
        raise ValueError(f"data.config: scenes have the configuration coarse or none, got {recipe.config!r}")
    garments = None if recipe.path is None else Path(recipe.path)
    return scenes(garments=garments, coarse=recipe.config == "coarse")


def _largest(path: Path, num_classes: int) -> int:
    """Return the class, without the background, of most pixels of a mask."""
    return int(np.bincount(read_mask(path).ravel(), minlength=num_classes + 1)[1:].argmax())
