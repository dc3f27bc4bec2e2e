"""What a finished run shows of itself: figures and the model's card."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_vits.hub.card import TrainingSummary, trained_card, write_card

from .data import Splits
from .figures import Prediction, draw_confusion, draw_curves, draw_predictions
from .recipe import Recipe, flat

_SHOWN_PREDICTIONS = 24
# Sections of a recipe that tell how a model was made; the others tell where things lie.
_TOLD_SECTIONS = ("augmentation", "objective", "optimizer", "schedule", "train")
# What a reader wants to know even where it is as usual.
_ALWAYS_TOLD = ("objective.loss", "optimizer.name", "schedule.kind", "train.seed")


def write_report(
    directory: Path,
    recipe: Recipe,
    model: PreTrainedModel,
    processor,
    splits: Splits,
    results: dict[str, Any],
    history: list[dict[str, Any]],
    matrix: np.ndarray,
) -> None:
    """Write README.md, the model's card, with curves.png, confusion_matrix.png and predictions.png beside it."""
    with tempfile.TemporaryDirectory() as drawn:
        figures = [Path(drawn, f"{name}.png") for name in ("curves", "confusion_matrix", "predictions")]
        curves, confusion, predictions = figures
        draw_curves(history, curves)
        draw_confusion(matrix, splits.class_names, confusion)
        draw_predictions(list(_predict(model, processor, splits)), predictions)
        write_card(trained_card(model, _summary(recipe, splits, results, history, figures)), directory)


def _predict(model: PreTrainedModel, processor, splits: Splits) -> Iterator[Prediction]:
    """Predictions of test images spread evenly over the split."""
    model.eval()
    count = min(_SHOWN_PREDICTIONS, len(splits.test))
    for index in np.linspace(0, len(splits.test) - 1, count).round().astype(int):
        image = splits.test.images[int(index)]
        image = image if model.config.num_channels == 1 else image.convert("RGB")
        with torch.no_grad():
            logits = model(**processor(images=image, return_tensors="pt").to(model.device)).logits[0].float()
        best = int(logits.argmax())
        yield Prediction(
            image=image,
            label=splits.class_names[splits.test.labels[index]],
            predicted=splits.class_names[best],
            probability=float(logits.softmax(0)[best]),
        )


def _summary(
    recipe: Recipe,
    splits: Splits,
    results: dict[str, Any],
    history: list[dict[str, Any]],
    figures: list[Path],
) -> TrainingSummary:
    return TrainingSummary(
        dataset=splits.name,
        train_size=results["train_images"],
        eval_size=results["test_images"],
        hyperparameters=_hyperparameters(recipe),
        metrics=results["test"],
        history=_course(history),
        figures=figures,
        dataset_id=_public(recipe.data.path) if recipe.data.source == "datasets" else None,
        base_model=_public(recipe.model.pretrained),
    )


def _hyperparameters(recipe: Recipe) -> dict[str, Any]:
    """The recipe's settings that are not the defaults, by their keys."""
    told = {}
    for section in _TOLD_SECTIONS:
        settings = getattr(recipe, section)
        defaults = {f.name: _default(f) for f in dataclasses.fields(settings)}
        changed = {key: value for key, value in dataclasses.asdict(settings).items() if value != defaults[key]}
        told |= flat(changed, f"{section}.")
    values = flat(recipe.to_dict())
    return {key: values[key] for key in _ALWAYS_TOLD} | told


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _course(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """A row per evaluation, with the training loss logged last before it."""
    rows, loss = [], None
    for entry in history:
        loss = entry.get("loss", loss)
        if "eval_loss" in entry:
            shown = {"epoch": entry["epoch"], "step": entry["step"], "loss": loss}
            rows.append(shown | {key: entry[key] for key in ("eval_loss", "eval_accuracy", "eval_top5_accuracy")})
    return rows


def _public(name: str | None) -> str | None:
    """A repository's name; None for a local path, which is nobody else's business."""
    return None if name is None or Path(name).exists() else name
