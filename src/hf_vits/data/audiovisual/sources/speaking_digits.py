"""Clips of moving digits whose sound track speaks the digit (espeak-ng) and whose caption names it, made at first use.

Scans and voices of validation and test are not in training. Some training clips have no sound, others no caption.
data.speech says how many clips there are and how they sound; data.path is the directory that keeps them, by default
one in Hugging Face's cache directory.
"""

import dataclasses
from pathlib import Path

from hf_vits.data.splits import Loaded
from hf_vits.data.synthetic.speaking_digits import speaking_digits
from hf_vits.recipe import DataRecipe

from .. import tables

READS = ("path", "speech", "captions")


def load(recipe: DataRecipe) -> Loaded:
    """Load the clips, made before where they are not there yet."""
    table = speaking_digits(recipe.speech, recipe.path and Path(recipe.path))
    return tables.load(dataclasses.replace(recipe, path=str(table)))._replace(name="speaking digits")
