"""Videos to classes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, PreTrainedModel

from hf_vits.layers.patch import pair
from hf_vits.processing.video import VitsVideoProcessor

from ..augmentation import training_transform
from ..data import Split, Splits, load_classes
from ..evaluation import rank
from ..figures import Prediction, draw_predictions
from ..recipe import DataRecipe, Recipe, VideoRecipe
from ..trainer import ClassificationTrainer
from ..video_clips import EvaluationClips, TrainingClips, average_views
from ..video_data import SOURCES, VIDEOS, FileVideos
from ..video_figures import contact_sheet, to_pictures
from .classification import Classification
from .task import FinishedRun

_SHOWN_PREDICTIONS = 12
_SHOWN_FRAMES = 8


class VideoTrainer(ClassificationTrainer):
    """Trainer of a classifier that evaluates several views of a video and averages their probabilities.

    The pixel_values of a batch to evaluate are (batch, views, frames, channels, height, width).
    """

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """No loss of its own, `rank` of the averaged probabilities as predictions, labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            logits = view_logits(model, inputs["pixel_values"])
        return None, rank(logits, inputs["labels"]), inputs["labels"]


def view_logits(model: PreTrainedModel, views: Tensor) -> Tensor:
    """Logarithms of the mean class probabilities (batch, classes) of views, (batch, views, frames, ...)."""
    return average_views([model(pixel_values=view).logits for view in views.unbind(1)])


class VideoClassification(Classification):
    auto_model = AutoModelForVideoClassification
    auto_processor = AutoVideoProcessor
    trainer = VideoTrainer
    noun = "video"
    media = VIDEOS
    files = FileVideos

    def load_splits(self, recipe: DataRecipe) -> Splits:
        return load_classes(recipe, SOURCES)

    def fit_processor(self, recipe: Recipe, processor: Any, splits: Splits) -> VitsVideoProcessor:
        if isinstance(processor, VitsVideoProcessor):
            return processor
        raise ValueError(
            f"the model's processor is a {type(processor).__name__}, which does not say which frames make a clip; "
            "save a VitsVideoProcessor beside the model, with its num_frames, sampling_rate, size, mean and std"
        )

    def objective(self, recipe: Recipe) -> nn.Module:
        if recipe.teacher is not None:
            raise ValueError("teacher: there is no distillation for videos; leave it out")
        return super().objective(recipe)

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> TrainingClips:
        transform = training_transform(recipe.augmentation, processor, pair(model.config.image_size))
        return TrainingClips(split, transform, processor)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationClips:
        return EvaluationClips(split, processor)

    def final_set(self, recipe: Recipe | None, model: PreTrainedModel, processor, split: Split) -> EvaluationClips:
        views = recipe.video if recipe else VideoRecipe()
        return EvaluationClips(split, processor, views.clips, views.crops)

    def logits(self, model: PreTrainedModel, features: dict[str, Tensor]) -> Tensor:
        return view_logits(model, features["pixel_values"])

    def draw_predictions(self, run: FinishedRun, path: Path) -> None:
        draw_predictions(list(predict_some(run)), path, columns=3)


def predict_some(run: FinishedRun) -> Iterator[Prediction]:
    """Predictions for the central clips of test videos spread evenly over the split, with some of their frames."""
    model, test, class_names = run.model.eval(), run.splits.test, run.splits.class_names
    count = min(_SHOWN_PREDICTIONS, len(test))
    for index in np.linspace(0, len(test) - 1, count).round().astype(int):
        (clip,) = run.processor.views(test.inputs[int(index)], num_clips=1, num_crops=1)
        with torch.no_grad():
            probabilities = model(pixel_values=clip[None].to(model.device)).logits[0].float().softmax(0)
        best = int(probabilities.argmax())
        shown = np.linspace(0, len(clip) - 1, min(_SHOWN_FRAMES, len(clip))).round().astype(int)
        yield Prediction(
            image=contact_sheet(to_pictures(clip[shown], run.processor), columns=_SHOWN_FRAMES // 2),
            label=class_names[test.labels[index]],
            predicted=class_names[best],
            probability=float(probabilities[best]),
        )


TASK = VideoClassification()
