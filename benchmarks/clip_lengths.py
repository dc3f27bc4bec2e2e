"""Accuracy of a finished run on keywords, in clips shorter and longer than in training.

Words, voices and noise are those of the run's test split; a clip that is too short for a word is cut at the end.

  python -m benchmarks.clip_lengths runs/spoken_keywords_audiomer
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from hf_vits.data.synthetic.speech import spoken_split
from hf_vits.recipe import load_recipe

from .commands import make_parser

_BATCH = 32


def main() -> None:
    parser = make_parser("clip_lengths", __doc__)
    parser.add_argument("run", type=Path, help="output directory of the run")
    parser.add_argument(
        "--factors", type=float, nargs="+", default=[0.5, 1, 2, 4], help="times the length in training"
    )
    args = parser.parse_args()
    recipe = load_recipe(args.run / "recipe.yaml").data.speech
    model = AutoModelForAudioClassification.from_pretrained(args.run).eval()
    extractor = AutoFeatureExtractor.from_pretrained(args.run)
    print("| seconds | accuracy |\n|---|---|")
    for factor in args.factors:
        clips = spoken_split("keywords", "test", dataclasses.replace(recipe, seconds=factor * recipe.seconds))
        print(f"| {factor * recipe.seconds:g} | {accuracy(model, extractor, clips):.3f} |", flush=True)


@torch.inference_mode()
def accuracy(model, extractor, clips) -> float:
    """Return the fraction of clips that are classified correctly."""
    right = 0
    for first in range(0, len(clips), _BATCH):
        numbers = range(first, min(first + _BATCH, len(clips)))
        waveforms = [np.array(clips[number]) for number in numbers]
        inputs = extractor(waveforms, padding="longest", truncation=False, return_tensors="pt")
        names = [model.config.id2label[label] for label in model(**inputs).logits.argmax(-1).tolist()]
        right += sum(name == clips.utterances[number].text for name, number in zip(names, numbers, strict=True))
    return right / len(clips)


if __name__ == "__main__":
    main()
