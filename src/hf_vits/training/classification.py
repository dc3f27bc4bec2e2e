"""The common part of all classification tasks: losses, accuracy, confusion matrix, report."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from hf_vits import objectives
from hf_vits.data.folders import Media
from hf_vits.data.label_groups import heads_of
from hf_vits.data.splits import Inputs, Split, Splits
from hf_vits.evaluation.accuracy import confusion
from hf_vits.figures.runs import draw_confusion, draw_curves
from hf_vits.folders import temporary_folder
from hf_vits.hub.card import write_card
from hf_vits.recipe import Recipe

from .examples.images import TrainingCollator
from .loop.trainer import ClassificationTrainer
from .report import output
from .report.card import training_card
from .task import FinishedRun, Task, evaluated_splits


class Classification(Task):
    """Base of tasks whose labels are classes. A subclass loads the data and draws predictions.

    Attributes:
        media: kind of files that hold the inputs.
        files: class that reads inputs from a list of paths.
    """

    trainer = ClassificationTrainer
    media: ClassVar[Media]
    files: ClassVar[Callable[[Sequence[Path]], Inputs]]

    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        if splits.head_sizes:
            raise ValueError(f"data.columns.label must name one column for models that classify {self.noun}s")
        return label_fields(splits.class_names)

    def objective(self, recipe: Recipe) -> nn.Module:
        chosen = recipe.objective
        if chosen.cosub:
            return objectives.CoSubLoss(binarize=chosen.loss == "binary")
        base = {
            "cross_entropy": objectives.CrossEntropy(chosen.label_smoothing),
            "binary": objectives.BinaryCrossEntropy(),
            "sigmoid": objectives.SigmoidCrossEntropy(),
        }[chosen.loss]
        if chosen.distillation == "none":
            return base
        return objectives.DistillationLoss(base, chosen.distillation, chosen.alpha, chosen.temperature)

    def collator(self, recipe: Recipe, model: PreTrainedModel, processor: Any, splits: Splits) -> TrainingCollator:
        return TrainingCollator(recipe.augmentation, len(splits.class_names))

    def final_set(self, recipe: Recipe | None, model: PreTrainedModel, processor: Any, split: Split) -> Dataset:
        """Return the data set on which a trained model is measured; by default the one used during training.

        Args:
            recipe: None for a model without one, as in `hf-vits evaluate`.
        """
        return self.evaluation_set(recipe, model, processor, split)

    def logits(self, model: PreTrainedModel, processor: Any, features: dict[str, Tensor]) -> Tensor:
        """Return logits (batch, classes) of an evaluation batch without its labels."""
        return model(**features).logits

    def evaluate(self, trainer: ClassificationTrainer, processor, splits: Splits) -> tuple[dict[str, Any], np.ndarray]:
        """Return loss and accuracies of the splits, and the confusion matrix (classes, classes) of the test split."""
        results = {}
        for name, split in evaluated_splits(splits).items():
            dataset = self.final_set(trainer.recipe, trainer.model, processor, split)
            prediction = trainer.predict(dataset, metric_key_prefix=name)
            measured = {key.removeprefix(f"{name}_"): value for key, value in prediction.metrics.items()}
            results[name] = {key: measured[key] for key in measured if key.endswith(("loss", "accuracy"))}
        predictions: Any = prediction.predictions
        rankings, _ = predictions
        heads = heads_of(trainer.model.config)
        return results, confusion(rankings, prediction.label_ids, len(splits.class_names), heads)

    def write_report(self, run: FinishedRun) -> None:
        """Write confusion_matrix.csv, and README.md with curves, confusion matrix and predictions as figures."""
        output.write_confusion(run.directory, run.details, run.splits.class_names)
        with temporary_folder() as drawn:
            figures = [drawn / f"{name}.png" for name in ("curves", "confusion_matrix", "predictions")]
            curves, matrix, predictions = figures
            draw_curves(run.history, curves)
            draw_confusion(run.details, run.splits.class_names, matrix)
            self.draw_predictions(run, predictions)
            write_card(training_card(run, self.noun, figures), run.directory)

    @abstractmethod
    def draw_predictions(self, run: FinishedRun, path: Path) -> None:
        """Draw some test inputs with their predicted classes."""


def label_fields(class_names) -> dict[str, dict]:
    """Return the configuration fields id2label and label2id for these classes."""
    return {
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: index for index, name in enumerate(class_names)},
    }
