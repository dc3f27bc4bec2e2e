"""What a recipe's task decides."""

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
    """A trained model and all that a report tells of it.

    Attributes:
        directory: where results go.
        results: content of results.json.
        history: Trainer's log.
        details: what `Task.evaluate` found beyond the results.
    """

    directory: Path
    recipe: Recipe
    model: PreTrainedModel
    processor: Any
    splits: Splits
    results: dict[str, Any]
    history: list[dict[str, Any]]
    details: Any


class Task(ABC):
    """Data, training and evaluation of one kind of model.

    Attributes:
        auto_model, auto_processor: transformers' Auto classes of the model and of what prepares its inputs.
        trainer: the Trainer's class.
        noun: what one input is called: image, video, recording.
    """

    auto_model: ClassVar[type]
    auto_processor: ClassVar[type]
    trainer: ClassVar[type[RecipeTrainer]]
    noun: ClassVar[str]

    @abstractmethod
    def load_splits(self, recipe: DataRecipe) -> Splits:
        """The data that a recipe names."""

    @abstractmethod
    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        """Configuration fields by which a model's head fits the data."""

    def fit_processor(self, recipe: Recipe, processor: Any, splits: Splits) -> Any:
        """The processor for these data; where nothing about it depends on them, itself."""
        return processor

    @abstractmethod
    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor: Any, split: Split) -> Dataset:
        """Augmented examples, each a function of its `SampleKey` alone."""

    @abstractmethod
    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor: Any, split: Split) -> Dataset:
        """Examples as the processor makes them, with labels."""

    @abstractmethod
    def objective(self, recipe: Recipe) -> nn.Module:
        """The loss, as the trainer calls it."""

    def batches(self, recipe: Recipe, splits: Splits, **sharing: int) -> GlobalBatches:
        """Which training examples meet in a batch; `sharing` says how processes share it, and how long it is mixed."""
        train = recipe.train
        return GlobalBatches(
            len(splits.train), train.batch_size, train.seed, repeats=recipe.augmentation.repeats, **sharing
        )

    def collator(self, recipe: Recipe, model: PreTrainedModel, processor: Any, splits: Splits) -> Callable | None:
        """From a list of training examples to a batch; None: PyTorch's own."""
        return None

    def evaluation_collator(self, processor: Any) -> Callable | None:
        """From a list of evaluation examples to a batch; None: PyTorch's own."""
        return None

    def attach(self, trainer: RecipeTrainer, splits: Splits) -> None:  # noqa: B027 - most need nothing else
        """Give the trainer what else the task needs, such as callbacks."""

    @abstractmethod
    def evaluate(self, trainer: RecipeTrainer, processor: Any, splits: Splits) -> tuple[dict[str, Any], Any]:
        """({"test": metrics, and "validation" if it is another split}, details for the report)."""

    @abstractmethod
    def write_report(self, run: FinishedRun) -> None:
        """Write the model's card with its figures, and whatever tables belong beside it."""
