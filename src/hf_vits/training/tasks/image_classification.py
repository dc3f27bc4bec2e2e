"""Images to classes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel

from hf_vits.data.images import IMAGES, SOURCES, FileImages, image_mode
from hf_vits.data.splits import Split, Splits, load_classes
from hf_vits.figures.runs import Prediction, draw_predictions
from hf_vits.layers.patch import pair
from hf_vits.recipe import DataRecipe, Recipe

from ..classification import Classification
from ..examples.images import EvaluationImages, TrainingImages, training_transform
from ..task import FinishedRun

_SHOWN_PREDICTIONS = 24


class ImageClassification(Classification):
    auto_model = AutoModelForImageClassification
    auto_processor = AutoImageProcessor
    noun = "image"
    media = IMAGES
    files = FileImages

    def load_splits(self, recipe: DataRecipe) -> Splits:
        return load_classes(recipe, SOURCES)

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> TrainingImages:
        transform = training_transform(recipe.augmentation, processor, pair(model.config.image_size))
        return TrainingImages(split, transform, image_mode(model))

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationImages:
        return EvaluationImages(split, processor, image_mode(model))

    def draw_predictions(self, run: FinishedRun, path: Path) -> None:
        draw_predictions(list(predict_some(run)), path)


def predict_some(run: FinishedRun) -> Iterator[Prediction]:
    """Predictions of test images spread evenly over the split."""
    model, test, class_names = run.model.eval(), run.splits.test, run.splits.class_names
    count = min(_SHOWN_PREDICTIONS, len(test))
    for index in np.linspace(0, len(test) - 1, count).round().astype(int):
        image = test.inputs[int(index)].convert(image_mode(model))
        with torch.no_grad():
            logits = model(**run.processor(images=image, return_tensors="pt").to(model.device)).logits[0].float()
        best = int(logits.argmax())
        yield Prediction(
            image=image,
            label=class_names[int(test.labels[index])],
            predicted=class_names[best],
            probability=float(logits.softmax(0)[best]),
        )


TASK = ImageClassification()
