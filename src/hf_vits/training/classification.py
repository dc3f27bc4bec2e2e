"""What all classifiers share: classes, losses, accuracy, the confusion matrix."""

import tempfile
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
from hf_vits.hub.card import write_card
from hf_vits.recipe import Recipe

from .examples.images import TrainingCollator
from .loop.trainer import ClassificationTrainer
from .report import output
from .report.card import training_card
from .task import FinishedRun, Task


class Classification(Task):
    """A task whose labels are classes. Subclasses load the data and draw some predictions.

    Attributes:
        media: the files that hold its inputs.
        files: class of inputs in files, made from their paths.
    """

    trainer = ClassificationTrainer
    media: ClassVar[Media]
    files: ClassVar[Callable[[Sequence[Path]], Inputs]]

    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        if splits.head_sizes:
            raise ValueError(f"data.columns.label is one column where models classify {self.noun}s")
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
        """What a trained model is measured on, with or without its recipe: by default as during training."""
        return self.evaluation_set(recipe, model, processor, split)

    def logits(self, model: PreTrainedModel, processor: Any, features: dict[str, Tensor]) -> Tensor:
        """Logits (batch, classes) of a batch to evaluate, without its labels."""
        return model(**features).logits

    def evaluate(self, trainer: ClassificationTrainer, processor, splits: Splits) -> tuple[dict[str, Any], np.ndarray]:
        """What `accuracy_metrics` gives of the splits; the confusion matrix of the test split."""
        results = {}
        for name in ("test",) if splits.validation is splits.test else ("validation", "test"):
            dataset = self.final_set(trainer.recipe, trainer.model, processor, getattr(splits, name))
            prediction = trainer.predict(dataset, metric_key_prefix=name)
            measured = {key.removeprefix(f"{name}_"): value for key, value in prediction.metrics.items()}
            results[name] = {key: measured[key] for key in measured if key.endswith(("loss", "accuracy"))}
        predictions: Any = prediction.predictions
        rankings, _ = predictions
        heads = heads_of(trainer.model.config)
        return results, confusion(rankings, prediction.label_ids, len(splits.class_names), heads)

    def write_report(self, run: FinishedRun) -> None:
        """confusion_matrix.csv, and README.md with curves, confusion matrix and some predictions drawn beside it."""
        output.write_confusion(run.directory, run.details, run.splits.class_names)
        with tempfile.TemporaryDirectory() as drawn:
            figures = [Path(drawn, f"{name}.png") for name in ("curves", "confusion_matrix", "predictions")]
            curves, matrix, predictions = figures
            draw_curves(run.history, curves)
            draw_confusion(run.details, run.splits.class_names, matrix)
            self.draw_predictions(run, predictions)
            write_card(training_card(run, self.noun, figures), run.directory)

    @abstractmethod
    def draw_predictions(self, run: FinishedRun, path: Path) -> None:
        """A picture of some test inputs and what the model takes them for."""


def label_fields(class_names) -> dict[str, dict]:
    """Configuration fields of a head for these classes."""
    return {
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: index for index, name in enumerate(class_names)},
    }
