"""Batches of recordings: grouped by length, turned into features by the model's processor, with labels."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hf_vits.layers.sequence_losses import PADDING
from hf_vits.objectives.classification import as_distribution
from hf_vits.recipe import AudioRecipe

from .audio_augmentation import augmented, mix_up
from .batches import GlobalBatches
from .randomness import RandomStream, seed_at, seeded

# Recordings of so many batches are sorted by length together. More batches mean less padding and less shuffling.
_BATCHES_SORTED = 50


class LengthBatches(GlobalBatches):
    """Sampler of global batches of recordings of similar length, in random order, another in each epoch.

    Args:
        seconds: length of each recording, (recordings,).
        args, options: arguments of `GlobalBatches` after the first.
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
        random = np.random.default_rng(seed_at(self.seed, RandomStream.BATCHES, self.epoch))
        return batches[random.permutation(len(batches))].ravel()


class EvaluationCollator:
    """Makes a batch of the items of `EvaluationRecordings`: the processor's features, and labels (batch,)."""

    def __init__(self, processor):
        self.processor = processor

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        return prepare(self.processor, items) | {"labels": self.labels([item["target"] for item in items])}

    def labels(self, targets: list[Any]) -> Tensor:
        """Return the targets of a batch as a tensor."""
        return torch.as_tensor(np.asarray(targets))


class TrainingCollator(EvaluationCollator):
    """Makes a batch of the items of `TrainingRecordings`, with SpecAugment and MixUp where the recipe asks for them.

    Labels are (batch,) classes, or (batch, classes) distributions in runs that mix.
    """

    def __init__(self, processor, recipe: AudioRecipe, num_classes: int):
        super().__init__(processor)
        self.recipe, self.num_classes = recipe, num_classes

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        batch = masked(super().__call__(items), items, self.processor, self.recipe)
        if not self.recipe.mixup:
            return batch
        batch["labels"] = as_distribution(batch["labels"], self.num_classes)
        mix_seed = items[0]["mix_seed"]
        if mix_seed is None:
            return batch
        with seeded(mix_seed):
            names = (self.processor.model_input_names[0], "labels")
            batch = mix_up(batch, self.recipe.mixup, self.recipe.mix_probability, names)
        # The first recording belongs to the part before and is only mixed with: see `GlobalBatches`.
        return {key: value[1:] for key, value in batch.items()}


def prepare(processor, items: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Return the model's inputs for a batch of items, as the processor makes them."""
    waveforms = [item["waveform"] for item in items]
    return dict(processor(waveforms, sampling_rate=processor.sampling_rate, return_tensors="pt"))


def masked(batch: dict[str, Tensor], items: list[dict[str, Any]], processor, recipe: AudioRecipe) -> dict[str, Tensor]:
    """Apply SpecAugment to the batch's spectrograms (batch, frames, bins), if the recipe has it."""
    if recipe.spec_augment is None:
        return batch
    name = processor.model_input_names[0]
    features, mask = batch[name], batch.get("attention_mask")
    lengths = [features.shape[1]] * len(features) if mask is None else mask.sum(dim=1).tolist()
    seeds = [item["seed"] for item in items]
    return batch | {name: augmented(features, lengths, recipe.spec_augment, seeds)}


class SpeechCollator(EvaluationCollator):
    """Makes a batch of recordings with texts: the processor's features, and labels (batch, tokens).

    Labels of shorter texts are padded with -100.
    """

    def __init__(self, processor):
        super().__init__(processor.feature_extractor)
        self.tokenizer = processor.tokenizer

    def labels(self, targets: list[str]) -> Tensor:
        """Return the token ids of texts (batch, tokens), padded with -100."""
        tokens = [torch.tensor(ids, dtype=torch.long) for ids in self.tokenizer(targets)["input_ids"]]
        return pad_sequence(tokens, batch_first=True, padding_value=PADDING)


class SpeechTrainingCollator(SpeechCollator):
    """Makes a batch of `TrainingRecordings` with texts, with SpecAugment where the recipe asks for it."""

    def __init__(self, processor, recipe: AudioRecipe):
        super().__init__(processor)
        self.recipe = recipe

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        return masked(super().__call__(items), items, self.processor, self.recipe)
