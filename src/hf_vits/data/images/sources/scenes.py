"""Digits and garments on photographs, made here; the label of a scene is the class of which it shows most.

Garments are shown if data.path names the directory of Fashion-MNIST's four idx files.
"""

from pathlib import Path

import numpy as np

from hf_vits.data.splits import Loaded, Split
from hf_vits.data.synthetic.scenes import scenes
from hf_vits.recipe import DataRecipe

from .. import FileImages
from ..masked import load_masked, read_mask

READS = ("path",)


def load(recipe: DataRecipe) -> Loaded:
    """Load the scenes of `data.synthetic.scenes.scenes`, which are written at first."""
    found = load_masked(scenes(garments=None if recipe.path is None else Path(recipe.path)))
    names = found["train"].class_names[1:]
    splits = {
        kind: Split(FileImages(images.images), np.array([_largest(path, len(names)) for path in images.masks]))
        for kind, images in found.items()
    }
    return Loaded("scenes", names, splits)


def _largest(path: Path, num_classes: int) -> int:
    """Return the class, without the background, of most pixels of a mask."""
    return int(np.bincount(read_mask(path).ravel(), minlength=num_classes + 1)[1:].argmax())
