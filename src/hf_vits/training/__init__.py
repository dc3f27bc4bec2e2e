"""Training by recipes: `train("recipes/<name>.yaml")`.

On several processes or machines: `accelerate launch -m hf_vits.training recipes/<name>.yaml`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def train(recipe: str | Path | dict[str, Any], overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Train, evaluate and save the model of a recipe.

    Started again after it was killed, a run goes on from its last checkpoint. A finished run returns its results.

    Args:
        recipe: YAML file, or its content as a dict; `hf_vits.recipe` describes the keys.
        overrides: changes to it, such as `"train.batch_size=64"`.

    Returns:
        The content of results.json: numbers of steps, processes, images and parameters, and for `test`, and
        `validation` if it is another split, loss, accuracy and top5_accuracy. The output directory holds the model
        and its processor, which `from_pretrained` reads, README.md (its card) with figures, history.jsonl,
        results.json, confusion_matrix.csv, recipe.yaml, and checkpoints to resume from.

    Raises:
        ValueError: the recipe is wrong, or the output directory holds a run of another one.
        OSError: data, checkpoint or model files are missing or unreadable.
    """
    from .run import run

    return run(recipe, overrides)


__all__ = ["train"]
