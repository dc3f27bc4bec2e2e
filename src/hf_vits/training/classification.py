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
from hf_vits.data.label_groups import heads_of, most_probable
from hf_vits.data.splits import Inputs, Split, Splits
from hf_vits.data.targets import named_numbers
from hf_vits.evaluation.accuracy import confusion, scores_of_classes
from hf_vits.evaluation.multi_label import best_thresholds, multi_label_metrics, of_each_class
from hf_vits.figures.runs import draw_confusion, draw_curves, draw_numbers, draw_precisions
from hf_vits.folders import temporary_folder
from hf_vits.hub.card import write_card
from hf_vits.recipe import Recipe

from .examples.images import TrainingCollator
from .loop.trainer import ClassificationTrainer, RecipeTrainer
from .regression import finish, standardize
from .report import output
from .report.card import training_card
from .task import FinishedRun, Task, evaluated_splits

# Ends of the names of scores where several classes of an input may be true.
_MOST_CLASSES_ON_CARD = 50
_SCORES = ("mAP", "P", "R", "F1", "ACC", "HA")


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
        chosen = recipe.objective
        if splits.is_regression:
            return label_fields(splits.class_names) | {"problem_type": "regression"}
        if splits.is_multi_label and (
            chosen.loss in ("cross_entropy", "focal") or chosen.cosub or chosen.distillation != "none"
        ):
            raise ValueError(
                f"several labels of each {self.noun} (data.columns.labels) go with objective.loss: binary, sigmoid, "
                f"asymmetric or masked, without cosub and distillation, got {chosen.loss}"
            )
        if not splits.is_multi_label and chosen.loss in ("asymmetric", "masked"):
            raise ValueError(f"objective.loss: {chosen.loss} is for several labels, see data.columns.labels")
        if chosen.loss == "masked" and self.noun != "image":
            raise ValueError(
                f"objective.loss: masked needs a model that takes known labels; none classifies {self.noun}s"
            )
        kind = {"problem_type": "multi_label_classification"} if splits.is_multi_label else {}
        return label_fields(splits.class_names) | kind

    def objective(self, recipe: Recipe) -> nn.Module:
        chosen = recipe.objective
        if chosen.cosub:
            return objectives.CoSubLoss(binarize=chosen.loss == "binary")
        base = {
            "cross_entropy": objectives.CrossEntropy(chosen.label_smoothing),
            "focal": objectives.FocalLoss(chosen.focal_gamma, chosen.label_smoothing),
            "binary": objectives.BinaryCrossEntropy(),
            "sigmoid": objectives.SigmoidCrossEntropy(),
            "asymmetric": objectives.AsymmetricLoss(),
            "masked": objectives.MaskedLabelLoss(),
            "mse": objectives.StandardizedSquaredError(),
        }[chosen.loss]
        if chosen.distillation == "none":
            return base
        return objectives.DistillationLoss(base, chosen.distillation, chosen.alpha, chosen.temperature)

    def collator(self, recipe: Recipe, model: PreTrainedModel, processor: Any, splits: Splits) -> TrainingCollator:
        return TrainingCollator(recipe.augmentation, len(splits.class_names))

    def attach(self, trainer: RecipeTrainer, splits: Splits) -> None:
        if splits.is_regression and trainer.recipe.objective.standardize:
            standardize(trainer, splits)

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
        """Return loss and accuracies of the splits, and the confusion matrix (classes, classes) of the test split.

        Where several classes of an input may be true, return the scores of `evaluation.multi_label`, and a row of
        scores for each class; the thresholds with the best F1 on the validation split are kept in the configuration.
        Of a regression, return the scores of `evaluation.regression`, and predictions and targets of the test split.
        """
        results = {}
        if splits.is_regression:
            finish(trainer)
        for name, split in evaluated_splits(splits).items():
            dataset = self.final_set(trainer.recipe, trainer.model, processor, split)
            prediction = trainer.predict(dataset, metric_key_prefix=name)
            measured = {key.removeprefix(f"{name}_"): value for key, value in prediction.metrics.items()}
            scores = ("loss", "accuracy", "macro_f1")
            if splits.is_multi_label:
                scores = ("loss", "accuracy", "mAP", "P", "R", "F1", "ACC", "HA")
            elif splits.is_regression:
                scores = ("loss", "mae", "mse", "r2")
            results[name] = {key: measured[key] for key in measured if key.removesuffix("_top3").endswith(scores)}
        predictions: Any = prediction.predictions
        if splits.is_regression:
            return results, np.stack([predictions[0], np.asarray(prediction.label_ids)])
        if splits.is_multi_label:
            validation = self.final_set(trainer.recipe, trainer.model, processor, splits.validation)
            thresholds = fit_thresholds(trainer, validation)
            results["test"] |= thresholded(prediction, thresholds)
            return results, of_each_class(predictions[0], prediction.label_ids, predictions[2], thresholds)  # pyright: ignore[reportReturnType]
        rankings, _ = predictions
        heads = heads_of(trainer.model.config)
        return results, confusion(rankings, prediction.label_ids, len(splits.class_names), heads)

    def write_report(self, run: FinishedRun) -> None:
        """Write confusion_matrix.csv, classes.csv, and README.md with curves, confusion matrix and predictions.

        Where several classes of an input may be true, labels.csv and the average precision of each are in their place;
        of a regression, targets.csv and predictions over targets.
        """
        name, write, draw = "confusion_matrix", output.write_confusion, draw_confusion
        if run.splits.is_multi_label:
            name, write, draw = "labels", output.write_labels, draw_precisions
        elif run.splits.is_regression:
            name, write, draw = "targets", output.write_targets, draw_numbers
        write(run.directory, run.details, run.splits.class_names)
        rows = class_rows(run.details, run.splits.class_names) if run.splits.has_one_class else []
        with temporary_folder() as drawn:
            figures = [drawn / f"{name}.png" for name in ("curves", name, "predictions")]
            curves, middle, predictions = figures
            draw_curves(run.history, curves)
            draw(run.details, run.splits.class_names, middle)
            self.draw_predictions(run, predictions)
            write_card(training_card(run, self.noun, figures, rows), run.directory)

    @abstractmethod
    def draw_predictions(self, run: FinishedRun, path: Path) -> None:
        """Draw some test inputs with their predicted classes."""


def class_rows(matrix: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the scores of each class as rows of a card's table; none of more than 50 classes."""
    if len(class_names) > _MOST_CLASSES_ON_CARD:
        return []
    return [
        {"class": name} | {key: round(value, 3) for key, value in row.items()}
        for name, row in zip(class_names, scores_of_classes(matrix), strict=True)
    ]


def fit_thresholds(trainer: ClassificationTrainer, dataset: Dataset) -> np.ndarray:
    """Keep the thresholds with the best F1 on a data set in the model's configuration, and return them."""
    prediction: Any = trainer.predict(dataset)
    thresholds = best_thresholds(prediction.predictions[0], prediction.label_ids)
    trainer.model.config.label_thresholds = [round(float(value), 6) for value in thresholds]  # pyright: ignore[reportAttributeAccessIssue]
    return thresholds


def thresholded(prediction: Any, thresholds: np.ndarray) -> dict[str, float]:
    """Return the F1 scores at the thresholds of the classes."""
    scores = multi_label_metrics(prediction, thresholds)
    return {f"{name}_fitted": scores[name] for name in ("CF1", "OF1", "ebF1")}


def described(config: Any, probabilities: Tensor, label: Any, class_names: Sequence[str]) -> dict[str, Any]:
    """Return label, predicted class and probability of an input, as fields of `figures.runs.Prediction`.

    Where several classes may be true, they are all that are, all that are predicted, and the lowest probability of
    those that are. Of a regression, they are the numbers of the input and the predicted ones.
    """
    if config.problem_type == "regression":
        numbers = [named_numbers(config, one) for one in (label, probabilities.tolist())]
        texts = [", ".join(f"{name} {value:.4g}" for name, value in one.items()) for one in numbers]
        return {"label": texts[0], "predicted": texts[1], "probability": None}
    if config.problem_type == "multi_label_classification":
        chosen = [int(index) for index in (probabilities >= 0.5).nonzero().flatten()]
        true = np.flatnonzero(np.nan_to_num(label) > 0)
        return {
            "label": ", ".join(class_names[index] for index in true) or "none",  # pyright: ignore[reportCallIssue]
            "predicted": ", ".join(class_names[index] for index in chosen) or "none",
            "probability": float(min((probabilities[index] for index in chosen), default=1 - probabilities.max())),
        }
    (best,) = most_probable(config, probabilities, 1)
    names = [class_names[int(index)] for index in np.atleast_1d(label)]
    return {"label": ", ".join(names), "predicted": best["label"], "probability": best["score"]}


def label_fields(class_names) -> dict[str, dict]:
    """Return the configuration fields id2label and label2id for these classes."""
    return {
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: index for index, name in enumerate(class_names)},
    }
