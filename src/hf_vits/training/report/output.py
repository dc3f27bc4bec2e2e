"""The output directory of a run: whose it is, what it holds, nothing in it ever half-written."""

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformers import PreTrainedModel
from transformers.trainer_utils import get_last_checkpoint

from hf_vits.recipe import Recipe, flat

RECIPE = "recipe.yaml"
RESULTS = "results.json"
HISTORY = "history.jsonl"
CONFUSION = "confusion_matrix.csv"
CHECKPOINTS = "checkpoints"
CARD = "README.md"

# Keys that may change from one start to the next, as may those of `output`: results do not hang on them.
_FREE_KEYS = (
    "train.accumulation",
    "train.evaluate_every",
    "train.evaluation_batch_size",
    "train.log_every",
    "train.save_every",
    "train.workers",
)


def check_directory(recipe: Recipe) -> None:
    """Raise ValueError if the output directory holds the run of another recipe."""
    directory = Path(recipe.output.directory)
    if not (directory / RECIPE).is_file():
        return
    before, now = flat(yaml.safe_load((directory / RECIPE).read_text())), flat(recipe.to_dict())
    changes = [
        f"{key}: {before.get(key)} there, {now.get(key)} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith("output.") and key not in _FREE_KEYS
    ]
    if changes:
        raise ValueError(
            f"{directory} holds a run of another recipe ({'; '.join(changes)}); "
            "choose another output.directory, or remove it"
        )


def write_recipe(recipe: Recipe) -> None:
    """Keep the whole recipe, defaults included, beside its results."""
    text = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
    write_text(Path(recipe.output.directory) / RECIPE, text)


def last_checkpoint(directory: Path) -> str | None:
    """The latest checkpoint to resume from. Checkpoints get their name once they are whole, so any will do."""
    checkpoints = directory / CHECKPOINTS
    return get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None


def stored_results(directory: Path) -> dict[str, Any] | None:
    """Results of a finished run; they are written last."""
    path = directory / RESULTS
    return json.loads(path.read_text()) if path.is_file() else None


def write_results(directory: Path, results: dict[str, Any]) -> None:
    write_text(directory / RESULTS, json.dumps(results, indent=2) + "\n")


def write_confusion(directory: Path, matrix: np.ndarray, class_names: list[str]) -> None:
    """Counts as CSV, a row per true class, a column per predicted one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true", *class_names])
    writer.writerows([name, *row] for name, row in zip(class_names, matrix, strict=True))
    write_text(directory / CONFUSION, text.getvalue())


def save_model(directory: Path, model: PreTrainedModel, processor) -> None:
    """Write what `from_pretrained` reads."""
    with tempfile.TemporaryDirectory(dir=directory, prefix=".saving-") as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        for file in Path(partial).iterdir():
            file.replace(directory / file.name)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
