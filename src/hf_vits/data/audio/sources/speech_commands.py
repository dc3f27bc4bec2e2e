"""Google's Speech Commands V2 (arXiv 1804.03209): the unpacked archive, with its lists of validation and test files.

data.num_classes is 35 (the default), 20 or 12, the tasks that Audiomer is measured on.
"""

from pathlib import Path

import numpy as np

from hf_vits.data.folders import is_hidden
from hf_vits.data.sources import required_path
from hf_vits.data.splits import Loaded, Split
from hf_vits.data.synthetic.speech import DIGITS, KEYWORDS
from hf_vits.recipe import DataRecipe

from .. import FileClips

READS = ("path",)

# The words of the archive besides the ten commands and the ten digits.
OTHER_WORDS = ("backward", "bed", "bird", "cat", "dog", "follow", "forward", "happy", "house", "learn", "marvin")
OTHER_WORDS += ("sheila", "tree", "visual", "wow")
UNKNOWN = "_unknown_"
UNKNOWN_WORDS = set(DIGITS + OTHER_WORDS) - {"backward", "follow", "forward", "learn"}


def load(recipe: DataRecipe) -> Loaded:
    """Load the recordings whose word belongs to one of the classes."""
    root = required_path(recipe, "the unpacked archive of Speech Commands V2")
    class_names = classes(recipe.num_classes)
    label_of = {word: label for label, word in enumerate(class_names)}
    if UNKNOWN in label_of:
        label_of = dict.fromkeys(UNKNOWN_WORDS, label_of[UNKNOWN]) | label_of
    splits = {}
    for kind, names in _listed(root).items():
        kept = [name for name in names if Path(name).parent.name in label_of]
        labels = [label_of[Path(name).parent.name] for name in kept]
        splits[kind] = Split(FileClips([root / name for name in kept]), np.asarray(labels, dtype=np.int64))
    return Loaded("Speech Commands V2", class_names, splits)


def _listed(root: Path) -> dict[str, list[str]]:
    """Return the file names of each split, as <word>/<file>; what neither list names is for training."""
    lists = {"validation": root / "validation_list.txt", "test": root / "testing_list.txt"}
    if missing := [path for path in lists.values() if not path.is_file()]:
        raise FileNotFoundError(f"{missing[0]} is missing; data.path is the unpacked archive of Speech Commands V2")
    names = {kind: path.read_text().split() for kind, path in lists.items()}
    held_out = {name for group in names.values() for name in group}
    every = (path.relative_to(root).as_posix() for path in sorted(root.glob("*/*.wav")) if not is_hidden(path.name))
    return names | {"train": [name for name in every if name not in held_out]}


def classes(number: int | None) -> list[str]:
    """Return the names of Audiomer's 35, 20 or 12 classes, in its order (Audiomer-PyTorch, datamodules/).

    The 20 are the ten commands and the digits. The 12 are the ten commands, silence, of which there are no recordings,
    and "_unknown_", all other words but four that belong to no class.
    """
    by_number = {
        35: sorted((*KEYWORDS, *DIGITS, *OTHER_WORDS)),
        20: [*KEYWORDS, *DIGITS],
        12: ["_silence_", UNKNOWN, *KEYWORDS],
    }
    if number is not None and number not in by_number:
        raise ValueError(f"Speech Commands has tasks with 35, 20 and 12 classes, data.num_classes asks for {number}")
    return by_number[number or 35]
