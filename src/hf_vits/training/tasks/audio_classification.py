"""Classification of recordings: keywords, sounds, emotions, intents."""

from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, PreTrainedModel

from hf_vits.data.audio import AUDIO, CLASS_SOURCES, FileClips
from hf_vits.data.label_groups import class_probabilities
from hf_vits.data.splits import Split, Splits, load_classes
from hf_vits.figures.audio import spectrogram_image
from hf_vits.figures.runs import Prediction, draw_predictions
from hf_vits.recipe import DataRecipe, Recipe

from ..classification import Classification, described
from ..examples.audio_batches import EvaluationCollator, TrainingCollator, prepare
from ..examples.audio_statistics import fit_normalization
from ..examples.recordings import EvaluationRecordings, TrainingRecordings
from ..examples.selection import spaced_indices
from ..task import FinishedRun

_SHOWN_PREDICTIONS = 24


class AudioClassification(Classification):
    """Task of classifying recordings."""

    auto_model = AutoModelForAudioClassification
    auto_processor = AutoFeatureExtractor
    noun = "recording"
    media = AUDIO
    files = FileClips

    def load_splits(self, recipe: DataRecipe) -> Splits:
        return load_classes(recipe, CLASS_SOURCES)

    def fit_processor(self, recipe: Recipe, processor, splits: Splits):
        if not recipe.audio.fit_normalization:
            return processor
        return fit_normalization(processor, splits.train, recipe.data.skip_unreadable)

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> TrainingRecordings:
        return TrainingRecordings(split, recipe.audio, processor.sampling_rate)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationRecordings:
        return EvaluationRecordings(split, processor.sampling_rate)

    def collator(self, recipe: Recipe, model: PreTrainedModel, processor, splits: Splits) -> TrainingCollator:
        return TrainingCollator(processor, recipe.audio, len(splits.class_names))

    def evaluation_collator(self, processor) -> EvaluationCollator:
        return EvaluationCollator(processor)

    def draw_predictions(self, run: FinishedRun, path: Path) -> None:
        draw_predictions(list(predict_some(run)), path)


def predict_some(run: FinishedRun) -> Iterator[Prediction]:
    """Yield predictions of evenly spaced test recordings, each with a picture of its spectrogram."""
    model, test, class_names = run.model.eval(), run.splits.test, run.splits.class_names
    recordings = EvaluationRecordings(test, run.processor.sampling_rate)
    for index in spaced_indices(len(test), _SHOWN_PREDICTIONS):
        item = recordings[index]
        inputs = {name: value.to(model.device) for name, value in prepare(run.processor, [item]).items()}
        with torch.no_grad():
            logits = model(**inputs).logits[0].float()
        image = spectrogram_image(item["waveform"], run.processor.sampling_rate)
        probabilities = class_probabilities(model.config, logits)
        yield Prediction(image=image, **described(model.config, probabilities, item["target"], class_names))


TASK = AudioClassification()
