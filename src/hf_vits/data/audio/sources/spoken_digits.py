"""Sequences of digits spoken by espeak-ng, with their texts, made at first use as data.speech describes them."""

import numpy as np

from hf_vits.data.splits import Loaded, Split
from hf_vits.data.synthetic import speech
from hf_vits.recipe import DataRecipe

from .. import SpokenClips

READS = ("speech",)


def load_texts(recipe: DataRecipe) -> Loaded:
    """Load the recordings with the digits as text, such as "three one four"."""
    splits = {}
    for kind, split in speech.spoken("digits", recipe.speech).items():
        texts = [utterance.text for utterance in split.utterances]
        splits[kind] = Split(SpokenClips(split, recipe.speech.sampling_rate), np.asarray(texts, dtype=object))
    return Loaded("digits spoken by espeak-ng", (), splits)
