"""Scenes of 32 x 32 pixels with several digits and letters, made here; half of the symbols are hidden."""

from hf_vits.data.splits import Loaded, Split
from hf_vits.data.synthetic.symbol_scenes import LABELS, make_scenes
from hf_vits.recipe import DataRecipe

from .. import ArrayImages

READS = ()
HIDDEN = 0.5
SIZES = {"train": 12_000, "validation": 1000, "test": 2000}


def load(recipe: DataRecipe) -> Loaded:
    """Make the scenes of every split, always the same."""
    splits = {}
    for seed, (kind, count) in enumerate(SIZES.items()):
        images, labels = make_scenes(count, HIDDEN, seed)
        splits[kind] = Split(ArrayImages(images), labels)
    return Loaded("scenes of symbols", LABELS, splits)
