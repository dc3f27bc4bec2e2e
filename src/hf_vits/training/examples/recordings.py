"""Data sets of training and evaluation recordings as waveforms; the collators turn them into features."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hf_vits.data.checks import decoding
from hf_vits.data.splits import Split
from hf_vits.processing.waveform import to_waveforms
from hf_vits.recipe import AudioRecipe

from .audio_augmentation import augment_waveform
from .batches import SampleKey
from .randomness import seeded


class TrainingRecordings(Dataset):
    """Data set of augmented waveforms, indexed by a `SampleKey` that decides everything random about them.

    An item is a dict of waveform (samples,), target (a class or a text), seed (of SpecAugment) and mix_seed.
    """

    def __init__(self, split: Split, recipe: AudioRecipe, sampling_rate: int):
        self.split, self.recipe, self.sampling_rate = split, recipe, sampling_rate

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        waveform = read(self.split, key.index, self.sampling_rate)
        with seeded(key.seed):
            waveform = augment_waveform(waveform, self.recipe, self.sampling_rate)
            seed = int(torch.randint(2**32, ()))
        return {
            "waveform": waveform,
            "target": self.split.labels[key.index],
            "seed": seed,
            "mix_seed": key.mix_seed,
        }


class EvaluationRecordings(Dataset):
    """Data set of waveforms without augmentation: dicts of waveform (samples,) and target (a class or a text)."""

    def __init__(self, split: Split, sampling_rate: int):
        self.split, self.sampling_rate = split, sampling_rate

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"waveform": read(self.split, index, self.sampling_rate), "target": self.split.labels[index]}


def read(split: Split, index: int, sampling_rate: int) -> Tensor:
    """Return a recording's waveform (samples,): one channel, float32, resampled to `sampling_rate` in hertz."""
    with decoding(split.inputs, index):
        (waveform,) = to_waveforms(split.inputs[index], sampling_rate)
    return waveform
