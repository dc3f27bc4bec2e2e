"""1,797 videos of scikit-learn's digits, each moving in one of four directions, made at first use.

data.columns.label is `direction` (the default), `digit`, or both as a list. data.path is the directory that keeps the
videos, by default one in Hugging Face's cache directory.
"""

import dataclasses
from pathlib import Path

from hf_vits.data.splits import Loaded
from hf_vits.data.synthetic.moving_digits import moving_digits
from hf_vits.recipe import DataRecipe

from .. import tables

READS = ("path", "columns.label")


def load(recipe: DataRecipe) -> Loaded:
    """Load the videos, made before where they are not there yet."""
    table = moving_digits(recipe.path and Path(recipe.path))
    listed = dataclasses.replace(recipe, path=str(table), columns={"label": "direction"} | recipe.columns)
    return tables.load(listed)._replace(name="moving digits")
