"""Semantic segmentation: the class of every pixel of an image."""

import csv
import io
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, PreTrainedModel

from hf_vits.data.images import image_mode
from hf_vits.data.masks import SOURCES
from hf_vits.data.splits import Split, Splits, divide_annotated
from hf_vits.evaluation.mean_iou import MeanIoU
from hf_vits.evaluation.segmenters import class_rows, summarize
from hf_vits.evaluation.sliding_window import classes_of, window_of
from hf_vits.figures.runs import draw_curves
from hf_vits.figures.segments import Segmented, draw_overlays
from hf_vits.folders import temporary_folder
from hf_vits.hub.card import write_card
from hf_vits.processing.opening import to_mode
from hf_vits.processing.segmentation import VitsSegmentationProcessor
from hf_vits.recipe import DataRecipe, Recipe

from ..classification import label_fields
from ..examples.masks import EvaluationMasks, TrainingMasks, collate
from ..examples.selection import spaced_indices
from ..loop.segmentation_trainer import SegmentationTrainer
from ..report import output
from ..report.card import training_card
from ..task import FinishedRun, ModelLoss, Task, evaluated_splits

_TABLE, _SHOWN, _MOST_CARD_CLASSES = "class_iou.csv", 6, 30


class SemanticSegmentation(Task):
    """Task of finding the class of every pixel of images."""

    auto_model = AutoModelForSemanticSegmentation
    auto_processor = AutoImageProcessor
    trainer = SegmentationTrainer
    noun = "image"
    advice = "; model.segmentation puts a segmentation head on the encoder of another model"

    def load_splits(self, recipe: DataRecipe) -> Splits:
        return divide_annotated(recipe, SOURCES.load(recipe))

    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        return label_fields(splits.class_names)

    def fit_processor(self, recipe: Recipe, processor: Any, splits: Splits) -> VitsSegmentationProcessor:
        if not isinstance(processor, VitsSegmentationProcessor):
            raise ValueError(
                f"semantic segmentation needs a VitsSegmentationProcessor, got {type(processor).__name__}{self.advice}"
            )
        return processor

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> TrainingMasks:
        return TrainingMasks(split, processor, image_mode(model), window_of(model), recipe.augmentation)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> EvaluationMasks:
        return EvaluationMasks(split, processor, image_mode(model))

    def evaluation_collator(self, processor: Any):
        return collate

    def objective(self, recipe: Recipe) -> nn.Module:
        return ModelLoss()

    def evaluate(self, trainer: SegmentationTrainer, processor, splits: Splits) -> tuple[dict[str, Any], MeanIoU]:
        """Return loss, mean IoU and accuracies of the splits, and the IoU of the classes of the test split."""
        results, measured = {}, None
        for name, split in evaluated_splits(splits).items():
            dataset = self.evaluation_set(trainer.recipe, trainer.model, processor, split)  # pyright: ignore[reportArgumentType]
            prediction: Any = trainer.predict(dataset, metric_key_prefix=name)
            results[name], measured = summarize(*prediction.predictions)
        assert measured is not None
        return results, measured

    def write_report(self, run: FinishedRun) -> None:
        """Write class_iou.csv, and README.md with curves, masks over images, and the IoU of the classes."""
        rows, table = class_rows(run.details, list(run.splits.class_names)), io.StringIO()
        writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        output.write_text(run.directory / _TABLE, table.getvalue())
        with temporary_folder() as drawn:
            figures = [drawn / f"{name}.png" for name in ("curves", "segments")]
            draw_curves(run.history, figures[0])
            self.draw(run, figures[1])
            samples = rows if len(rows) <= _MOST_CARD_CLASSES else ()
            write_card(training_card(run, self.noun, figures, samples), run.directory)

    @staticmethod
    def draw(run: FinishedRun, path: Path) -> None:
        """Draw some test images with the known and the predicted classes over them."""
        model, test = run.model.eval(), run.splits.test
        examples = []
        for index in spaced_indices(len(test), _SHOWN):
            image, mask = test.inputs[index]
            image = to_mode(image, image_mode(model))
            examples.append(Segmented(image, mask, classes_of(model, run.processor, image)))
        draw_overlays(examples, run.splits.class_names, path)


TASK = SemanticSegmentation()
