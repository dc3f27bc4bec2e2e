"""Digits and garments on photographs, made here; the label of a scene is the class of which it shows most.

Garments are shown if data.path names the directory of Fashion-MNIST's four idx files. `data.config` is the number and
the side of the scenes, such as 400x64 (by default 2000x96), or coarse, with which there are two classes, digits and
garments, or both, such as coarse-400x64.
"""

import re
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
    match = re.fullmatch(r"(coarse)?-?(?:(\d+)x(\d+))?", recipe.config or "")
    if match is None:
        raise ValueError(
            "data.config: scenes have the configuration coarse or none, with or without their number and side, as in "
            f"coarse-400x64, got {recipe.config!r}"
        )
    garments = None if recipe.path is None else Path(recipe.path)
    sizes = {} if match[2] is None else {"count": int(match[2]), "size": int(match[3])}
    return scenes(garments=garments, coarse=match[1] is not None, **sizes)


def _largest(path: Path, num_classes: int) -> int:
    """Return the class, without the background, of most pixels of a mask."""
    return int(np.bincount(read_mask(path).ravel(), minlength=num_classes + 1)[1:].argmax())
