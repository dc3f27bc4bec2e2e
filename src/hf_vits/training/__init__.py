"""Training by recipes: `train("recipes/<name>.yaml")`.

On several processes or machines: `accelerate launch -m hf_vits.training recipes/<name>.yaml`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from .loop.trainer import RecipeTrainer


def train(
    recipe: str | Path | dict[str, Any], overrides: Iterable[str] = (), *, callbacks: Iterable["TrainerCallback"] = ()
) -> dict[str, Any]:
    """Train, evaluate and save the model of a recipe.

    Started again, a run that was killed resumes from its last checkpoint; a finished run returns its results.

    Args:
        recipe: YAML file, or its content as a dict; `hf_vits.recipe` describes the keys.
        overrides: changes to it, such as `"train.batch_size=64"`.
        callbacks: further callbacks of transformers' Trainer.

    Returns:
        The content of results.json: numbers of steps, processes, inputs and parameters, and the metrics of `test`, and
        of `validation` if it is another split; for classifiers loss, accuracy, balanced_accuracy, macro_f1 and, of six
        classes or more, top5_accuracy. The output directory holds the model and its processor for `from_pretrained`,
        README.md (the model card) with figures,
        history.jsonl, results.json, recipe.yaml, checkpoints to resume from, and tables such as confusion_matrix.csv.

    Raises:
        ValueError: the recipe is wrong, or the output directory holds a run of another recipe.
        OSError: data, checkpoint or model files are missing or unreadable, or another process runs in the output
            directory.
    """
    from .run import run

    return run(recipe, overrides, callbacks)


def build_trainer(recipe: str | Path | dict[str, Any], overrides: Iterable[str] = ()) -> "RecipeTrainer":
    """Return the Trainer of a recipe with its model, processor, data sets and objective, ready for `train()`.

    It is a transformers Trainer: `trainer.model`, `trainer.processor`, `trainer.train_dataset`,
    `trainer.eval_dataset`, `trainer.add_callback`. Checkpoints go below the recipe's output directory; reports, cards
    and the finished model are what `train` adds.

    Args:
        recipe, overrides: as in `train`.

    Raises:
        ValueError: the recipe is wrong.
        OSError: data, checkpoint or model files are missing or unreadable.
    """
    from hf_vits.recipe import load_recipe

    from .run import build

    return build(load_recipe(recipe, overrides)).trainer


__all__ = ["build_trainer", "train"]
