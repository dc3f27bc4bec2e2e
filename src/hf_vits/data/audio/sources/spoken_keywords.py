"""Keywords spoken by espeak-ng, one per recording, made at first use as data.speech describes them."""

import numpy as np

from hf_vits.data.splits import Loaded, Split
from hf_vits.data.synthetic import speech
from hf_vits.recipe import DataRecipe

from .. import SpokenClips

READS = ("speech",)


def load(recipe: DataRecipe) -> Loaded:
    """Load the recordings with the keyword as class."""
    splits = {}
    for kind, split in speech.spoken("keywords", recipe.speech).items():
        labels = [speech.KEYWORDS.index(utterance.text) for utterance in split.utterances]
        splits[kind] = Split(SpokenClips(split, recipe.speech.sampling_rate), np.asarray(labels, dtype=np.int64))
    return Loaded("keywords spoken by espeak-ng", speech.KEYWORDS, splits)
