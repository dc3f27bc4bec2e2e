"""Grey scenes of 1024 x 1024 pixels with three of scikit-learn's digits among clutter, drawn when they are used.

data.columns.label is `largest` (the default), the largest of the digits, or `parity`, of their sum. 8,000 scenes to
train on and 500 with other scans to test on.
"""

from hf_vits.data.splits import Loaded, Split
from hf_vits.data.synthetic.digit_scenes import LABELS, DigitScenes
from hf_vits.recipe import DataRecipe

READS = ("columns.label",)
SIZES = {"train": 8000, "test": 500}


def load(recipe: DataRecipe) -> Loaded:
    """Load the scenes; ValueError if data.columns.label is another one."""
    kind = recipe.columns.get("label", "largest")
    if kind not in LABELS:
        raise ValueError(f"data.columns.label of digit_scenes must be {' or '.join(LABELS)}, got {kind!r}")
    scenes = {name: DigitScenes(count, is_test=name == "test") for name, count in SIZES.items()}
    splits = {name: Split(one, one.labels(kind)) for name, one in scenes.items()}
    return Loaded("digit scenes", LABELS[kind], splits)
