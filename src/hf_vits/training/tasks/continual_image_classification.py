"""Image classification of classes that come in a stream of tasks."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from hf_vits import objectives
from hf_vits.data.class_splits import ClassSplit, class_split
from hf_vits.data.domains import DomainSplit, load_domains
from hf_vits.data.splits import Splits, readable, without_unreadable
from hf_vits.evaluation.continual import summary
from hf_vits.figures.continual import draw_accuracy_matrix, draw_forgetting
from hf_vits.figures.runs import draw_confusion, draw_curves
from hf_vits.folders import temporary_folder
from hf_vits.hub.card import write_card
from hf_vits.recipe import DataRecipe, Recipe
from hf_vits.recipe.fields import steps_of

from ..continual.stream import TaskBatches
from ..continual.trainer import ContinualTrainer
from ..report import output
from ..report.card import training_card
from ..task import FinishedRun
from .image_classification import ImageClassification

STREAM = "tasks.json"


@dataclass(frozen=True)
class StreamDetails:
    """What the report of a stream shows.

    Attributes:
        confusion: matrix (classes, classes) of the test split.
        tasks: names of each task's classes, or of its domain.
        accuracy: {"aware", "agnostic": (tasks, tasks)}, see `ContinualTrainer`.
    """

    confusion: np.ndarray
    tasks: list[list[str]]
    accuracy: dict[str, np.ndarray]


class ContinualImageClassification(ImageClassification):
    """Task of classifying images whose classes, or domains, come in a stream of tasks."""

    trainer = ContinualTrainer

    def load_splits(self, recipe: DataRecipe) -> Splits:
        return load_domains(recipe, self._load_readable) if recipe.domains else self._load_readable(recipe)

    def _load_readable(self, recipe: DataRecipe) -> Splits:
        """Load splits; with data.skip_unreadable without unreadable files, of training too.

        Another input in their place, as in other tasks, could be of another task of the stream.
        """
        splits = super().load_splits(recipe)
        if not recipe.skip_unreadable:
            return splits
        return replace(readable(splits, recipe), train=without_unreadable(splits.train, recipe))

    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        if splits.is_multi_label:
            raise ValueError("a stream of tasks needs one class for each image, not several labels")
        check(recipe, splits)
        stream_of(recipe, splits)
        return super().head_fields(recipe, splits)

    def objective(self, recipe: Recipe) -> nn.Module:
        return objectives.CrossEntropy()

    def batches(self, recipe: Recipe, splits: Splits, **division: int) -> TaskBatches:
        train = recipe.train
        if division.get("processes", 1) > 1:
            raise ValueError("a stream of tasks is trained by one process: start it without accelerate launch")
        division.pop("mix_steps", None)
        total = steps_of(train.length, len(splits.train) // train.batch_size)
        stream: Any = recipe.continual
        split = stream_of(recipe, splits)
        return TaskBatches(
            split.tasks_of(splits.train),
            len(split.sizes),
            train.batch_size,
            train.seed,
            total,
            cumulative=stream.method == "joint",
            **division,
        )

    def attach(self, trainer: Any, splits: Splits) -> None:
        measured = self.evaluation_set(trainer.recipe, trainer.model, trainer.processor, splits.test)
        split = stream_of(trainer.recipe, splits)
        trainer.prepare(split, measured, split.tasks_of(splits.test), splits.train.labels)

    def evaluate(self, trainer: Any, processor: Any, splits: Splits) -> tuple[dict[str, Any], Any]:
        results, confusion = super().evaluate(trainer, processor, splits)
        split: ClassSplit | DomainSplit = trainer.split
        accuracy = {kind: np.array(rows) for kind, rows in trainer.accuracy.items()}
        for kind, matrix in accuracy.items():
            untrained = trainer.untrained if kind == "aware" else None
            measures = summary(matrix, split.sizes, untrained)
            results["test"] |= {f"task_{kind}_{name}": value for name, value in measures.items()}
        if isinstance(split, DomainSplit):
            tasks = [[name] for name in split.names]
        else:
            tasks = [[splits.class_names[label] for label in split.members(task)] for task in range(len(split.sizes))]
        return results, StreamDetails(confusion, tasks, accuracy)

    def write_report(self, run: FinishedRun) -> None:
        """Write confusion_matrix.csv, tasks.json, and README.md with the history of tasks and figures."""
        details: StreamDetails = run.details
        output.write_confusion(run.directory, details.confusion, run.splits.class_names)
        accuracy = {kind: matrix.tolist() for kind, matrix in details.accuracy.items()}
        stored = {"tasks": details.tasks, **{f"task_{kind}_accuracy": rows for kind, rows in accuracy.items()}}
        output.write_text(run.directory / STREAM, json.dumps(stored, indent=2) + "\n")
        history = [
            {
                "task": number,
                "domain" if run.splits.domain_names else "classes": ", ".join(map(str, names)),
                "accuracy when learned": round(float(details.accuracy["agnostic"][number - 1, number - 1]), 4),
                "at the end": round(float(details.accuracy["agnostic"][-1, number - 1]), 4),
                "at the end, task known": round(float(details.accuracy["aware"][-1, number - 1]), 4),
            }
            for number, names in enumerate(details.tasks, start=1)
        ]
        with temporary_folder() as drawn:
            names = ("curves", "accuracy_matrix", "forgetting", "confusion_matrix", "predictions")
            figures = [drawn / f"{name}.png" for name in names]
            draw_curves(run.history, figures[0])
            draw_accuracy_matrix(details.accuracy, figures[1])
            draw_forgetting(details.accuracy["agnostic"], figures[2])
            draw_confusion(details.confusion, run.splits.class_names, figures[3])
            self.draw_predictions(run, figures[4])
            write_card(training_card(run, self.noun, figures, history), run.directory)


def stream_of(recipe: Recipe, splits: Splits) -> ClassSplit | DomainSplit:
    """Return the stream of domains, or of the data's classes; ValueError where the recipe's order does not fit."""
    stream, names = recipe.continual, list(splits.class_names)
    if splits.domain_names:
        return DomainSplit(tuple(splits.domain_names), len(names))
    assert stream is not None
    assert stream.tasks is not None
    order = None
    if stream.order is not None:
        unknown = [name for name in stream.order if name not in names]
        missing = [name for name in names if name not in stream.order]
        if unknown or missing:
            raise ValueError(
                f"continual.order must name every class of {splits.name} once: it lacks {missing[:5]}, and names "
                f"{unknown[:5]}, which the data do not have"
            )
        order = [names.index(name) for name in stream.order]
    return class_split(len(names), stream.tasks, stream.first, order, stream.order_seed)


def check(recipe: Recipe, splits: Splits) -> None:
    """Raise ValueError for settings that a stream of tasks does not take."""
    stream, chosen = recipe.continual, recipe.objective
    assert stream is not None
    if stream.memory > len(splits.train):
        raise ValueError(
            f"continual.memory: {stream.memory} is larger than the data, {len(splits.train)} training images"
        )
    if stream.memory and stream.memory_kind == "herding" and recipe.train.workers:
        raise ValueError("continual.memory_kind: herding needs train.workers: 0, since images are chosen on the way")
    if recipe.augmentation.mixup or recipe.augmentation.cutmix or recipe.augmentation.repeats > 1:
        raise ValueError("a stream of tasks goes without augmentation.mixup, cutmix and repeats")
    if chosen.loss != "cross_entropy" or chosen.cosub or chosen.label_smoothing or recipe.teacher is not None:
        raise ValueError("a stream of tasks goes with objective.loss: cross_entropy, without other options or teacher")
    if recipe.train.use_ema:
        raise ValueError("a stream of tasks goes without train.use_ema")
    if recipe.train.activation_checkpointing and stream.method in ("attention", "functional"):
        raise ValueError(f"continual.method: {stream.method} goes without train.activation_checkpointing")


TASK = ContinualImageClassification()
