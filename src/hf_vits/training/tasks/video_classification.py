"""Video classification."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)

from hf_vits.configuration import pair
from hf_vits.data.label_groups import class_probabilities
from hf_vits.data.splits import Split, Splits, load_classes
from hf_vits.data.videos import SOURCES, VIDEOS, FileVideos
from hf_vits.figures.runs import Prediction, draw_predictions
from hf_vits.figures.videos import contact_sheet, to_pictures
from hf_vits.objectives import MultiHeadCrossEntropy
from hf_vits.processing.video import VitsVideoProcessor
from hf_vits.processing.views import average_views, usual_average
from hf_vits.recipe import DataRecipe, Recipe, VideoRecipe

from ..classification import Classification, described, label_fields
from ..examples.clips import EvaluationClips, TrainingClips, check_processor
from ..examples.image_augmentation import training_transform
from ..examples.selection import spaced_indices
from ..loop.trainer import ClassificationTrainer, RecipeTrainer
from ..task import FinishedRun

_SHOWN_PREDICTIONS = 12
_SHOWN_FRAMES = 8


class VideoTrainer(ClassificationTrainer):
    """Trainer of a video classifier that is evaluated on several views of each video and may have several heads.

    An evaluation batch has pixel_values (batch, views, frames, channels, height, width).
    """

    def logits(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Return logits (batch, classes), averaged over views."""
        return view_logits(model, self.processor, inputs["pixel_values"], self.model.config)


def view_logits(model: nn.Module, processor: VitsVideoProcessor, views: Tensor, config: PreTrainedConfig) -> Tensor:
    """Return logits (batch, classes), averaged over views (batch, views, frames, ...) as in the original.

    Args:
        config: configuration of the model, which may be wrapped and then has none itself.
    """
    logits = [model(pixel_values=view).logits for view in views.unbind(1)]
    return average_views(logits, usual_average(processor, config), getattr(config, "head_sizes", None))


class VideoClassification(Classification):
    """Task of classifying videos, by one label or by one of each of several label columns."""

    auto_model = AutoModelForVideoClassification
    auto_processor = AutoVideoProcessor
    trainer = VideoTrainer
    noun = "video"
    media = VIDEOS
    files = FileVideos

    def load_splits(self, recipe: DataRecipe) -> Splits:
        return load_classes(recipe, SOURCES)

    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        if not splits.head_sizes:
            return super().head_fields(recipe, splits)
        if recipe.objective.loss != "cross_entropy":
            raise ValueError(
                f"objective.loss {recipe.objective.loss} takes one label of each video; with several columns in "
                "data.columns.label it must be cross_entropy"
            )
        return label_fields(splits.class_names) | {"head_sizes": list(splits.head_sizes)}

    def attach(self, trainer: RecipeTrainer, splits: Splits) -> None:
        super().attach(trainer, splits)
        if splits.head_sizes:
            smoothing = trainer.recipe.objective.label_smoothing
            trainer.objective = MultiHeadCrossEntropy(splits.head_sizes, smoothing)

    def fit_processor(self, recipe: Recipe, processor: Any, splits: Splits) -> VitsVideoProcessor:
        return check_processor(processor)

    def objective(self, recipe: Recipe) -> nn.Module:
        if recipe.teacher is not None:
            raise ValueError("teacher: distillation is not available for videos; leave the section out")
        return super().objective(recipe)

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> TrainingClips:
        transform = training_transform(recipe.augmentation, processor, pair(model.config.image_size))
        return TrainingClips(split, transform, processor)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationClips:
        return EvaluationClips(split, processor)

    def final_set(self, recipe: Recipe | None, model: PreTrainedModel, processor, split: Split) -> EvaluationClips:
        views = recipe.video if recipe else VideoRecipe()
        return EvaluationClips(split, check_processor(processor), views.clips, views.crops)

    def logits(self, model: PreTrainedModel, processor: VitsVideoProcessor, features: dict[str, Tensor]) -> Tensor:
        return view_logits(model, processor, features["pixel_values"], model.config)

    def draw_predictions(self, run: FinishedRun, path: Path) -> None:
        draw_predictions(list(predict_some(run)), path, columns=3)


def predict_some(run: FinishedRun) -> Iterator[Prediction]:
    """Yield predictions for the central clips of evenly spaced test videos, with some of their frames."""
    model, test, class_names = run.model.eval(), run.splits.test, run.splits.class_names
    for index in spaced_indices(len(test), _SHOWN_PREDICTIONS):
        (clip,) = run.processor.views(test.inputs[index], num_clips=1, num_crops=1)
        with torch.no_grad():
            logits = model(pixel_values=clip[None].to(model.device)).logits[0]
        shown = spaced_indices(len(clip), _SHOWN_FRAMES)
        yield Prediction(
            image=contact_sheet(to_pictures(clip[shown], run.processor), columns=_SHOWN_FRAMES // 2),
            **described(model.config, class_probabilities(model.config, logits), test.labels[index], class_names),
        )


TASK = VideoClassification()
