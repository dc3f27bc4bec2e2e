"""Training by recipes: `train("recipes/<name>.yaml")`.

On several processes or machines: `accelerate launch -m hf_vits.training recipes/<name>.yaml`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def train(recipe: str | Path | dict[str, Any], overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Train, evaluate and save the model of a recipe.

    Started again, a run that was killed resumes from its last checkpoint; a finished run returns its results.

    Args:
        recipe: YAML file, or its content as a dict; `hf_vits.recipe` describes the keys.
        overrides: changes to it, such as `"train.batch_size=64"`.

    Returns:
        The content of results.json: numbers of steps, processes, inputs and parameters, and the metrics of `test`, and
        of `validation` if it is another split; for classifiers loss, accuracy and top5_accuracy. The output directory
        holds the model and its processor for `from_pretrained`, README.md (the model card) with figures,
        history.jsonl, results.json, recipe.yaml, checkpoints to resume from, and tables such as confusion_matrix.csv.

    Raises:
        ValueError: the recipe is wrong, or the output directory holds a run of another recipe.
        OSError: data, checkpoint or model files are missing or unreadable, or another process runs in the output
            directory.
    """
    from .run import run

    return run(recipe, overrides)


__all__ = ["train"]
