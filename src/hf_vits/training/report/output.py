"""The output directory of a run: its files, written whole or not at all, and the check of its recipe."""

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformers import PreTrainedModel
from transformers.trainer_utils import get_last_checkpoint

from hf_vits.evaluation.accuracy import scores_of_classes
from hf_vits.evaluation.regression import of_each_target
from hf_vits.files import read_json, write_text, writing
from hf_vits.folders import abandoned, temporary_folder
from hf_vits.parsing import parse_yaml
from hf_vits.recipe import Recipe, flat
from hf_vits.recipe.fields import is_longer

RECIPE = "recipe.yaml"
RESULTS = "results.json"
HISTORY = "history.jsonl"
CONFUSION = "confusion_matrix.csv"
CLASSES = "classes.csv"
LABELS = "labels.csv"
TARGETS = "targets.csv"
CHECKPOINTS = "checkpoints"
CARD = "README.md"
# Names of what is being written: a checkpoint, and a model.
INCOMPLETE = "incomplete"
SAVING = ".saving-"

# Keys that may change when a run is resumed, as may those of `output`: its batches do not depend on them, but for
# inputs that could not be read.
_FREE_KEYS = (
    "data.skip_unreadable",
    "train.accumulation",
    "train.evaluate_every",
    "train.evaluation_batch_size",
    "train.log_every",
    "train.report_to",
    "train.save_every",
    "train.sharding",
    "train.workers",
)


def check_directory(recipe: Recipe) -> bool:
    """Return whether the output directory holds a shorter run of this recipe, which is to go on.

    A run that saved neither a checkpoint nor results does not occupy its directory.

    Raises:
        ValueError: the directory holds the run of another recipe, or a finished run that kept no checkpoint to go on.
    """
    directory = Path(recipe.output.directory)
    finished, started = (directory / RESULTS).is_file(), last_checkpoint(directory) is not None
    if not (directory / RECIPE).is_file() or not (finished or started):
        return False
    stored = parse_yaml((directory / RECIPE).read_bytes(), str(directory / RECIPE))
    if not isinstance(stored, dict):
        raise ValueError(f"{directory / RECIPE} is damaged: expected keys and values, got {stored!r}")
    before, now = flat(stored), flat(recipe.to_dict())
    longer = is_longer(recipe.train.length, str(before.get("train.length")))
    free = (*_FREE_KEYS, *(["train.length"] if longer else []))
    changes = [
        f"{key}: {before.get(key)} there, {now.get(key)} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith("output.") and key not in free
    ]
    if before.get("output.best") != recipe.output.best:
        changes.append(f"output.best: {before.get('output.best')} there, {recipe.output.best} here")
    if changes:
        raise ValueError(
            f"{directory} holds a run of another recipe ({'; '.join(changes)}); choose another output.directory, or "
            "remove it. Of the length only a longer one in the same unit goes on"
        )
    if longer and not started:
        raise ValueError(
            f"{directory} holds a finished run without a checkpoint, which cannot go on to train.length "
            f"{recipe.train.length}: choose another output.directory, or remove it"
        )
    return longer


def write_recipe(recipe: Recipe) -> None:
    """Write the whole recipe, defaults included, into the output directory."""
    text = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
    write_text(Path(recipe.output.directory) / RECIPE, text)


def last_checkpoint(directory: Path) -> str | None:
    """Return the latest checkpoint, or None. Checkpoints get their name once they are complete."""
    checkpoints = directory / CHECKPOINTS
    return get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None


def reopen(directory: Path) -> None:
    """Make a finished run unfinished, so that it goes on to a new length even if it is interrupted before its end."""
    (directory / RESULTS).unlink(missing_ok=True)


def stored_results(directory: Path) -> dict[str, Any] | None:
    """Return the results of a finished run, which are written last, or None."""
    path = directory / RESULTS
    return read_json(path) if path.is_file() else None


def write_results(directory: Path, results: dict[str, Any]) -> None:
    """Write results.json, which marks a run as finished."""
    write_text(directory / RESULTS, json.dumps(results, indent=2) + "\n")


def write_labels(directory: Path, rows: Sequence[dict[str, float]], class_names: Sequence[str]) -> None:
    """Write the scores of each class as CSV, see `evaluation.multi_label.of_each_class`."""
    columns = ("positives", "threshold", "average_precision", "precision", "recall", "f1")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", *columns])
    writer.writerows([name, *map(row.get, columns)] for name, row in zip(class_names, rows, strict=True))
    write_text(directory / LABELS, text.getvalue())


def write_targets(directory: Path, numbers: np.ndarray, names: Sequence[str]) -> None:
    """Write the errors of each target of a regression as CSV.

    Args:
        numbers: predictions and targets (2, inputs, targets).
    """
    rows = of_each_target(*numbers)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["target", *rows[0]])
    writer.writerows([name, *row.values()] for name, row in zip(names, rows, strict=True))
    write_text(directory / TARGETS, text.getvalue())


def write_confusion(directory: Path, matrix: np.ndarray, class_names: list[str]) -> None:
    """Write a confusion matrix (classes, classes) as CSV, a row per true class, and the scores of each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true", *class_names])
    writer.writerows([name, *row] for name, row in zip(class_names, matrix, strict=True))
    write_text(directory / CONFUSION, text.getvalue())
    scores = scores_of_classes(matrix)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *scores[0]])
    writer.writerows([name, *row.values()] for name, row in zip(class_names, scores, strict=True))
    write_text(directory / CLASSES, text.getvalue())


def remove_leftovers(directory: Path) -> None:
    """Remove what a killed run was about to write, from a directory that no other run uses."""
    for _ in abandoned(directory, SAVING):
        pass
    for path in directory.glob(".*.partial"):
        path.unlink()
    shutil.rmtree(directory / CHECKPOINTS / INCOMPLETE, ignore_errors=True)


def save_model(directory: Path, model: PreTrainedModel, processor) -> None:
    """Write model and processor for `from_pretrained`."""
    with writing(directory), temporary_folder(directory, SAVING) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        for file in partial.iterdir():
            file.replace(directory / file.name)
