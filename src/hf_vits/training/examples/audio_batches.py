"""Batches of recordings: prepared together by the model's processor, with labels; of like length where they differ."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hf_vits.layers.sequence_losses import PADDING
from hf_vits.objectives.classification import as_distribution
from hf_vits.recipe import AudioRecipe

from .batches import GlobalBatches
from .randomness import Choice, seed_at, seeded
from .recordings import augmented, mix_up

# How many batches' recordings are sorted by length at a time: more waste less padding and mix less.
_BATCHES_SORTED = 50


class LengthBatches(GlobalBatches):
    """Global batches of recordings of like length, in an order that is drawn anew each epoch.

    Args:
        seconds: length of each recording, (recordings,).
        options: of `GlobalBatches`.
    """

    def __init__(self, seconds: np.ndarray, *args, **options):
        super().__init__(len(seconds), *args, **options)
        self.seconds = seconds

    def _order(self) -> np.ndarray:
        order = super()._order()[: self.batches_per_epoch * self.batch_size]
        pool = self.batch_size * _BATCHES_SORTED
        pools = [order[first : first + pool] for first in range(0, len(order), pool)]
        batches = np.concatenate([one[np.argsort(self.seconds[one], kind="stable")] for one in pools])
        batches = batches.reshape(self.batches_per_epoch, self.batch_size)
        random = np.random.default_rng(seed_at(self.seed, Choice.BATCHES, self.epoch))
        return batches[random.permutation(len(batches))].ravel()


class EvaluationCollator:
    """Batch of `EvaluationRecordings`: what the processor makes of them, and labels (batch,)."""

    def __init__(self, processor):
        self.processor = processor

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        return prepare(self.processor, items) | {"labels": self.labels([item["target"] for item in items])}

    def labels(self, targets: list[Any]) -> Tensor:
        return torch.as_tensor(np.asarray(targets))


class TrainingCollator(EvaluationCollator):
    """Batch of `TrainingRecordings`: likewise, with masked spectrograms and mixed recordings.

    Labels are (batch,), or (batch, classes) in runs that mix.
    """

    def __init__(self, processor, recipe: AudioRecipe, num_classes: int):
        super().__init__(processor)
        self.recipe, self.num_classes = recipe, num_classes

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = masked(super().__call__(items), items, self.processor, self.recipe)
        if not self.recipe.mixup:
            return batch
        batch["labels"] = as_distribution(batch["labels"], self.num_classes)
        mixture = items[0]["mixture"]
        if mixture is None:
            return batch
        with seeded(mixture):
            names = (self.processor.model_input_names[0], "labels")
            batch = mix_up(batch, self.recipe.mixup, self.recipe.mix_probability, names)
        # The first is the last of the run of recordings before: see `GlobalBatches`.
        return {key: value[1:] for key, value in batch.items()}


def prepare(processor, items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The model's inputs, of all recordings at once."""
    waveforms = [item["waveform"] for item in items]
    return dict(processor(waveforms, sampling_rate=processor.sampling_rate, return_tensors="pt"))


def masked(batch: dict[str, Tensor], items: list[dict[str, Any]], processor, recipe: AudioRecipe) -> dict[str, Tensor]:
    """A batch whose spectrograms (batch, frames, bins) went through SpecAugment where the recipe has it."""
    if recipe.spec_augment is None:
        return batch
    name = processor.model_input_names[0]
    features, mask = batch[name], batch.get("attention_mask")
    lengths = [features.shape[1]] * len(features) if mask is None else mask.sum(dim=1).tolist()
    seeds = [item["seed"] for item in items]
    return batch | {name: augmented(features, lengths, recipe.spec_augment, seeds)}


class SpeechCollator(EvaluationCollator):
    """Batch of `EvaluationRecordings` with texts: what the processor makes of them, and labels (batch, tokens).

    Labels of shorter texts are padded with -100.
    """

    def __init__(self, processor):
        super().__init__(processor.feature_extractor)
        self.tokenizer = processor.tokenizer

    def labels(self, targets: list[str]) -> Tensor:
        tokens = [torch.tensor(ids, dtype=torch.long) for ids in self.tokenizer(targets)["input_ids"]]
        return pad_sequence(tokens, batch_first=True, padding_value=PADDING)


class SpeechTrainingCollator(SpeechCollator):
    """Batch of `TrainingRecordings` with texts: likewise, with masked spectrograms."""

    def __init__(self, processor, recipe: AudioRecipe):
        super().__init__(processor)
        self.recipe = recipe

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        return masked(super().__call__(items), items, self.processor, self.recipe)
