"""Image classification."""

from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel

from hf_vits.configuration import pair
from hf_vits.data.images import IMAGES, SOURCES, FileImages, image_mode
from hf_vits.data.label_groups import class_probabilities
from hf_vits.data.splits import Split, Splits, load_classes
from hf_vits.figures.features import denormalized
from hf_vits.figures.runs import Prediction, draw_predictions
from hf_vits.figures.selection import outline
from hf_vits.processing.opening import to_mode
from hf_vits.recipe import DataRecipe, Recipe

from ..classification import Classification, described
from ..examples.image_augmentation import training_transform
from ..examples.images import EvaluationImages, TrainingImages
from ..examples.selection import spaced_indices
from ..task import FinishedRun

_SHOWN_PREDICTIONS = 24


class ImageClassification(Classification):
    """Task of classifying images."""

    auto_model = AutoModelForImageClassification
    auto_processor = AutoImageProcessor
    noun = "image"
    media = IMAGES
    files = FileImages

    def load_splits(self, recipe: DataRecipe) -> Splits:
        return load_classes(recipe, SOURCES)

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> TrainingImages:
        transform = training_transform(recipe.augmentation, processor, pair(model.config.image_size))
        return TrainingImages(split, transform, image_mode(model), self.known_fraction(recipe, model))

    @staticmethod
    def known_fraction(recipe: Recipe | None, model: PreTrainedModel, key: str = "known_fraction") -> float | None:
        """Return the fraction of labels that are known; None without loss masked. ValueError for other models."""
        if recipe is None or recipe.objective.loss != "masked":
            return None
        if "known_labels" not in getattr(model, "own_arguments", ()):
            raise ValueError(
                f"objective.loss: masked needs a model that takes known labels, not {type(model).__name__}"
            )
        if recipe.augmentation.mixup or recipe.augmentation.cutmix:
            raise ValueError("objective.loss: masked goes without augmentation.mixup and cutmix")
        return getattr(recipe.objective, key)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationImages:
        fraction = self.known_fraction(recipe, model, "evaluated_fraction")
        return EvaluationImages(split, processor, image_mode(model), fraction)

    def draw_predictions(self, run: FinishedRun, path: Path) -> None:
        draw_predictions(list(predict_some(run)), path)


def predict_some(run: FinishedRun) -> Iterator[Prediction]:
    """Yield predictions of evenly spaced test images, with frames around the patches that a model selects."""
    model, test, class_names = run.model.eval(), run.splits.test, run.splits.class_names
    for index in spaced_indices(len(test), _SHOWN_PREDICTIONS):
        image = to_mode(test.inputs[index], image_mode(model))
        inputs = run.processor(images=image, return_tensors="pt").to(model.device)
        with torch.no_grad():
            outputs = model(**inputs)
        if hasattr(model, "patch_boxes"):
            pixel_values = inputs["pixel_values"]
            boxes = model.patch_boxes(outputs.indices, pixel_values.shape[-2], pixel_values.shape[-1])  # pyright: ignore[reportCallIssue]
            image = outline(denormalized(pixel_values, run.processor)[0], boxes[0].cpu().numpy())
        probabilities = class_probabilities(model.config, outputs.logits[0].float())
        yield Prediction(image=image, **described(model.config, probabilities, test.labels[index], class_names))


TASK = ImageClassification()
