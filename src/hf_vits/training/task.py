"""The interface of a task: how its data are loaded, its model trained, evaluated and reported."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from hf_vits.data.splits import Split, Splits
from hf_vits.recipe import DataRecipe, Recipe

from .examples.batches import GlobalBatches
from .loop.trainer import RecipeTrainer


@dataclass(frozen=True)
class FinishedRun:
    """A trained model with everything that its report shows.

    Attributes:
        directory: the run's output directory.
        results: content of results.json.
        history: entries of Trainer's log.
        details: second value of `Task.evaluate`, such as a confusion matrix.
    """

    directory: Path
    recipe: Recipe
    model: PreTrainedModel
    processor: Any
    splits: Splits
    results: dict[str, Any]
    history: list[dict[str, Any]]
    details: Any


def evaluated_splits(splits: Splits) -> dict[str, Split]:
    """Return the splits that a run measures at its end by name: "validation", if it is another split, and "test"."""
    named = {"validation": splits.validation, "test": splits.test}
    return {"test": splits.test} if splits.validation is splits.test else named


class ModelLoss(nn.Module):
    """Objective of models that compute their loss themselves."""

    def forward(self, outputs):
        return outputs.loss, {}


class Task(ABC):
    """Data, training and evaluation of one kind of model.

    Attributes:
        auto_model, auto_processor: transformers' Auto classes of the model and of its processor.
        trainer: class of the Trainer.
        noun: name of one input: image, video, recording.
        advice: what to do about a model that the task cannot train, with its punctuation.
    """

    advice: ClassVar[str] = ""
    auto_model: ClassVar[type]
    auto_processor: ClassVar[type]
    trainer: ClassVar[type[RecipeTrainer]]
    noun: ClassVar[str]

    @abstractmethod
    def load_splits(self, recipe: DataRecipe) -> Splits:
        """Load the data that a recipe names."""

    @abstractmethod
    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        """Return the configuration fields that fit a model's head to the data, such as id2label."""

    def fit_processor(self, recipe: Recipe, processor: Any, splits: Splits) -> Any:
        """Return the processor adapted to the data, such as its normalisation; by default unchanged."""
        return processor

    @abstractmethod
    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor: Any, split: Split) -> Dataset:
        """Return the data set of augmented samples, indexed by `SampleKey`."""

    @abstractmethod
    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor: Any, split: Split) -> Dataset:
        """Return the data set of samples as the processor makes them, with labels, indexed by number."""

    @abstractmethod
    def objective(self, recipe: Recipe) -> nn.Module:
        """Return the loss module that the trainer calls."""

    def batches(self, recipe: Recipe, splits: Splits, **division: int) -> GlobalBatches:
        """Return the sampler of training batches; `division` are the keyword arguments of `GlobalBatches`."""
        train, classes = recipe.train, None
        if recipe.data.sampler == "balanced":
            if not splits.has_one_class:
                raise ValueError("data.sampler: balanced is for inputs of one class each; set it to shuffled")
            classes = splits.train.labels
        repeats = recipe.augmentation.repeats
        return GlobalBatches(
            len(splits.train), train.batch_size, train.seed, repeats=repeats, classes=classes, **division
        )

    def collator(self, recipe: Recipe, model: PreTrainedModel, processor: Any, splits: Splits) -> Callable | None:
        """Return the function from a list of training samples to a batch; None: PyTorch's `default_collate`."""
        return None

    def evaluation_collator(self, processor: Any) -> Callable | None:
        """Return the function from a list of evaluation samples to a batch; None: PyTorch's `default_collate`."""
        return None

    def attach(self, trainer: RecipeTrainer, splits: Splits) -> None:  # noqa: B027 - most need nothing else
        """Add what the task needs beside the common arguments to the trainer, such as callbacks."""

    @abstractmethod
    def evaluate(self, trainer: RecipeTrainer, processor: Any, splits: Splits) -> tuple[dict[str, Any], Any]:
        """Return metrics {"test": ..., and "validation" if it is another split}, and details for the report."""

    @abstractmethod
    def write_report(self, run: FinishedRun) -> None:
        """Write the model card with its figures, and tables beside it, into the output directory."""
