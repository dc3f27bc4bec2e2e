"""Speech recognition by CTC: recordings to texts."""

import csv
import io
from typing import Any

from rapidfuzz.distance import Levenshtein
from torch import nn
from transformers import AutoModelForCTC, AutoProcessor, PreTrainedModel, ProcessorMixin

from hf_vits.data.audio import TEXT_SOURCES, clip_seconds
from hf_vits.data.splits import Split, Splits, hold_out
from hf_vits.figures.runs import draw_curves
from hf_vits.folders import temporary_folder
from hf_vits.hub.card import write_card
from hf_vits.processing.speech import VitsCtcTokenizer, VitsSpeechProcessor
from hf_vits.recipe import DataRecipe, Recipe, TokenizerRecipe

from ..examples.audio_batches import LengthBatches, SpeechCollator, SpeechTrainingCollator
from ..examples.audio_statistics import fit_normalization
from ..examples.batches import GlobalBatches
from ..examples.recordings import EvaluationRecordings, TrainingRecordings
from ..examples.selection import spaced_indices
from ..loop.speech_trainer import ERROR_RATES, SpeechTrainer, transcripts
from ..report import output
from ..report.card import training_card
from ..task import FinishedRun, Task, evaluated_splits

_TRANSCRIPTS = "transcripts.csv"
_SHOWN_TRANSCRIPTS = 12


class AutomaticSpeechRecognition(Task):
    """Task of writing down speech."""

    auto_model = AutoModelForCTC
    auto_processor = AutoProcessor
    trainer = SpeechTrainer
    noun = "recording"

    def load_splits(self, recipe: DataRecipe) -> Splits:
        name, class_names, splits = TEXT_SOURCES.load(recipe)
        return Splits(name, class_names, *hold_out(name, splits, recipe, by_class=False))

    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        return {"vocab_size": len(learn_tokenizer(recipe.tokenizer, splits.train))} if recipe.tokenizer else {}

    def fit_processor(self, recipe: Recipe, processor: Any, splits: Splits) -> ProcessorMixin:
        whole = isinstance(processor, ProcessorMixin)
        extractor = processor.feature_extractor if whole else processor
        if recipe.audio.fit_normalization:
            extractor = fit_normalization(extractor, splits.train, recipe.data.skip_unreadable)
        if recipe.tokenizer:
            return VitsSpeechProcessor(extractor, learn_tokenizer(recipe.tokenizer, splits.train))
        if not whole:
            raise ValueError("this model comes without a tokenizer: describe one to learn in the section `tokenizer`")
        return type(processor)(extractor, processor.tokenizer)

    def batches(self, recipe: Recipe, splits: Splits, **division: int) -> GlobalBatches:
        return LengthBatches(clip_seconds(splits.train.inputs), recipe.train.batch_size, recipe.train.seed, **division)

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> TrainingRecordings:
        return TrainingRecordings(split, recipe.audio, processor.feature_extractor.sampling_rate)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationRecordings:
        return EvaluationRecordings(split, processor.feature_extractor.sampling_rate)

    def collator(self, recipe: Recipe, model: PreTrainedModel, processor, splits: Splits) -> SpeechTrainingCollator:
        return SpeechTrainingCollator(processor, recipe.audio)

    def evaluation_collator(self, processor) -> SpeechCollator:
        return SpeechCollator(processor)

    def objective(self, recipe: Recipe) -> nn.Module:
        return ModelLoss()

    def evaluate(self, trainer: SpeechTrainer, processor, splits: Splits) -> tuple[dict[str, Any], list[dict]]:
        """Return loss and error rates of the splits; and references, predictions and word errors of the test."""
        results = {}
        for name, split in evaluated_splits(splits).items():
            dataset = self.evaluation_set(trainer.recipe, trainer.model, processor, split)
            prediction = trainer.predict(dataset, metric_key_prefix=name)
            results[name] = {key: prediction.metrics[f"{name}_{key}"] for key in ("loss", *ERROR_RATES)}
        references, predictions = transcripts(processor.tokenizer, prediction)
        return results, compare(references, predictions)

    def write_report(self, run: FinishedRun) -> None:
        """Write transcripts.csv, and README.md with curves and some transcripts."""
        table = io.StringIO()
        writer = csv.DictWriter(table, ["reference", "prediction", "word_errors"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(run.details)
        output.write_text(run.directory / _TRANSCRIPTS, table.getvalue())
        with temporary_folder() as drawn:
            curves = drawn / "curves.png"
            draw_curves(run.history, curves)
            card = training_card(run, self.noun, [curves], samples=some_transcripts(run.details))
            write_card(card, run.directory)


class ModelLoss(nn.Module):
    """Objective that takes the loss which the model computed from its labels."""

    def forward(self, outputs):
        return outputs.loss, {}


def learn_tokenizer(recipe: TokenizerRecipe, split: Split) -> VitsCtcTokenizer:
    """Return the tokenizer that a recipe describes, learned from the texts of a split."""
    if recipe.kind == "characters":
        return VitsCtcTokenizer.train_characters(split.labels, lowercase=recipe.lowercase)
    return VitsCtcTokenizer.train_bpe(split.labels, recipe.vocab_size, lowercase=recipe.lowercase)


def compare(references: list[str], predictions: list[str]) -> list[dict[str, Any]]:
    """Return {reference, prediction, word_errors} of each pair of texts."""
    return [
        {
            "reference": reference,
            "prediction": prediction,
            "word_errors": Levenshtein.distance(reference.split(), prediction.split()),
        }
        for reference, prediction in zip(references, predictions, strict=True)
    ]


def some_transcripts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return twelve rows: the six with most errors, and six evenly spaced among the others."""
    worst = sorted(rows, key=lambda row: -row["word_errors"])
    half = _SHOWN_TRANSCRIPTS // 2
    others = worst[half:]
    return [others[place] for place in reversed(spaced_indices(len(others), half))] + worst[:half]


TASK = AutomaticSpeechRecognition()
