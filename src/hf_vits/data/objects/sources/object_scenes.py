"""Digits on photographs, made here: data.config is "<number>x<side>", by default 1000x320."""

import re

from hf_vits.recipe import DataRecipe

from ...splits import Loaded, Split
from ...synthetic.scenes import DIGITS, ObjectScenes
from .. import as_labels

READS = ("config",)


def load(recipe: DataRecipe) -> Loaded:
    """Load the scenes, a fifth of them for testing; ValueError for another form of data.config."""
    match = re.fullmatch(r"(\d+)x(\d+)", recipe.config or "1000x320")
    if match is None:
        raise ValueError(f'data.config of object_scenes must be "<number>x<side>", got {recipe.config!r}')
    count, size = int(match[1]), int(match[2])
    splits = {
        name: Split(
            scenes := ObjectScenes(number, size, held_out), as_labels([scenes.label(i) for i in range(number)])
        )
        for name, number, held_out in (("train", count - count // 5, False), ("test", count // 5, True))
    }
    return Loaded("digits on photographs", DIGITS, splits)
