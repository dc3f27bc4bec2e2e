"""Object detection, and instance segmentation where the model has masks."""

import csv
import io
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoImageProcessor, AutoModelForObjectDetection, PreTrainedModel

from hf_vits.data.images import image_mode
from hf_vits.data.objects import SOURCES
from hf_vits.data.splits import Split, Splits, divide_annotated
from hf_vits.figures.objects import Scene, detected_scene, draw_scenes
from hf_vits.figures.runs import draw_curves
from hf_vits.folders import temporary_folder
from hf_vits.hub.card import write_card
from hf_vits.layers.regions import paste_masks
from hf_vits.processing.detection import VitsDetectionProcessor, read_objects
from hf_vits.processing.opening import to_mode
from hf_vits.recipe import DataRecipe, Recipe

from ..classification import label_fields
from ..examples.objects import EvaluationObjects, TrainingObjects, collate
from ..examples.selection import spaced_indices
from ..loop.detection_trainer import DetectionTrainer, measure
from ..report import output
from ..report.card import training_card
from ..task import FinishedRun, ModelLoss, Task, evaluated_splits

_TABLE, _SHOWN, _SHOWN_SCORE = "average_precision.csv", 6, 0.5


class ObjectDetection(Task):
    """Task of finding objects in images."""

    auto_model = AutoModelForObjectDetection
    auto_processor = AutoImageProcessor
    trainer = DetectionTrainer
    noun = "image"

    def load_splits(self, recipe: DataRecipe) -> Splits:
        return divide_annotated(recipe, SOURCES.load(recipe))

    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        return label_fields(splits.class_names)

    def fit_processor(self, recipe: Recipe, processor: Any, splits: Splits) -> VitsDetectionProcessor:
        if not isinstance(processor, VitsDetectionProcessor):
            raise ValueError(f"object detection needs a VitsDetectionProcessor, got {type(processor).__name__}")
        return processor

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> TrainingObjects:
        needs_masks = getattr(model, "needs_masks", False)
        return TrainingObjects(split, processor, image_mode(model), needs_masks, recipe.augmentation)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationObjects:
        return EvaluationObjects(split, processor, image_mode(model), getattr(model, "needs_masks", False))

    def collator(self, recipe: Recipe, model: PreTrainedModel, processor: Any, splits: Splits):
        return collate

    def evaluation_collator(self, processor: Any):
        return collate

    def objective(self, recipe: Recipe) -> nn.Module:
        return ModelLoss()

    def evaluate(self, trainer: DetectionTrainer, processor, splits: Splits) -> tuple[dict[str, Any], dict]:
        """Return loss and average precisions of the splits, and those of each class of the test split."""
        results, classes = {}, {}
        for name, split in evaluated_splits(splits).items():
            dataset = self.evaluation_set(trainer.recipe, trainer.model, processor, split)  # pyright: ignore[reportArgumentType]
            prediction = trainer.predict(dataset, metric_key_prefix=name)
            scores, classes = measure(dataset, processor, prediction, splits.class_names)
            results[name] = {key: value for key, value in scores.items() if value == value}
        return results, classes

    def write_report(self, run: FinishedRun) -> None:
        """Write average_precision.csv, and README.md with curves and detections as figures."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["class", *(f"{kind}_AP" for kind in run.details)])
        for name in run.splits.class_names:
            writer.writerow([name, *(f"{values[name]:.4f}" for values in run.details.values())])
        output.write_text(run.directory / _TABLE, table.getvalue())
        with temporary_folder() as drawn:
            figures = [drawn / f"{name}.png" for name in ("curves", "detections")]
            draw_curves(run.history, figures[0])
            self.draw(run, figures[1])
            write_card(training_card(run, self.noun, figures), run.directory)

    @staticmethod
    @torch.no_grad()
    def draw(run: FinishedRun, path: Path) -> None:
        """Draw some test images with the known objects, and with those that are detected."""
        model, processor, test = run.model.eval(), run.processor, run.splits.test
        scenes = []
        for index in spaced_indices(len(test), _SHOWN):
            image = to_mode(test.inputs[index], image_mode(model)).convert("RGB")
            size = (image.height, image.width)
            inputs = processor(images=image, return_tensors="pt").to(model.device)
            (found,) = processor.detections(model(**inputs), _SHOWN_SCORE, [size])
            if found["masks"] is not None:
                found["masks"] = paste_masks(found["masks"], found["boxes"], size)
            known = read_objects(test.labels[index], size)
            names = [run.splits.class_names[label] for label in known["class_labels"].tolist()]
            scenes.append(Scene(image, known["boxes"].numpy(), names))
            scenes.append(detected_scene(image, found, run.splits.class_names))
        draw_scenes(scenes, path)


TASK = ObjectDetection()
