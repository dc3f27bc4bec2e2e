"""The model card of a finished run."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_vits.hub.card import Card, TrainingSummary, trained_card
from hf_vits.recipe import Recipe, flat

if TYPE_CHECKING:
    from ..task import FinishedRun

# Sections of a recipe whose settings the card lists; the others hold paths and names.
_LISTED_SECTIONS = (
    "augmentation",
    "audio",
    "video",
    "views",
    "masks",
    "momentum_teacher",
    "continual",
    "objective",
    "optimizer",
    "schedule",
    "train",
)
# Metrics of the validation split in the card's table.
_MEASURES = (
    "eval_loss",
    "eval_accuracy",
    "eval_top5_accuracy",
    "eval_balanced_accuracy",
    "eval_mAP",
    "eval_mae",
    "eval_r2",
    "eval_CF1",
    "eval_OF1",
    "eval_mean_iou",
    "eval_pixel_accuracy",
    "eval_word_error_rate",
    "eval_character_error_rate",
    "eval_knn_accuracy",
    "eval_knn_top5_accuracy",
    "eval_sound_recall",
    "eval_text_recall",
)
# Tasks whose models compute a loss of their own.
_OWN_LOSS = ("automatic-speech-recognition", "multimodal-pretraining", "pretraining", "semantic-segmentation")
# Settings that are listed even where they are the defaults.
_ALWAYS_LISTED = ("objective.loss", "optimizer.name", "schedule.kind", "train.seed")


def training_card(
    run: "FinishedRun", noun: str, figures: list[Path], samples: Sequence[Mapping[str, Any]] = ()
) -> Card:
    """Return the model card of a finished run.

    Args:
        noun: name of one input: image, video, recording.
        figures: pictures to show.
        samples: rows of a table, such as transcripts.
    """
    recipe = run.recipe
    summary = TrainingSummary(
        dataset=run.splits.name,
        train_size=run.results.get(f"train_{noun}s"),
        eval_size=run.results[f"test_{noun}s"],
        hyperparameters=_hyperparameters(recipe),
        metrics=run.results["test"],
        history=_evaluations(run.history),
        figures=figures,
        samples=samples,
        dataset_id=_public(recipe.data.path) if names_dataset(recipe) else None,
        base_model=_public(recipe.model.pretrained),
    )
    return trained_card(run.model, summary)


def names_dataset(recipe: Recipe) -> bool:
    """Return whether data.path of a recipe may be a dataset on the Hub, and no module that reads other files."""
    return recipe.data.source == "datasets" and not (recipe.data.data_dir or recipe.data.data_files)


def _hyperparameters(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's settings that differ from the defaults, by their keys."""
    listed = {}
    for section in _LISTED_SECTIONS:
        settings = getattr(recipe, section)
        if settings is None:
            continue
        defaults = {f.name: _default(f) for f in dataclasses.fields(settings)}
        changed = {key: value for key, value in dataclasses.asdict(settings).items() if value != defaults[key]}
        listed |= flat(changed, f"{section}.")
    values = flat(recipe.to_dict())
    if recipe.task in _OWN_LOSS:
        del values["objective.loss"]
    return {key: values[key] for key in _ALWAYS_LISTED if key in values} | listed


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _evaluations(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Return a row per evaluation, with the training loss logged last before it."""
    rows, loss = [], None
    for entry in history:
        loss = entry.get("loss", loss)
        if any(measure in entry for measure in _MEASURES):
            shown = {"epoch": entry["epoch"], "step": entry["step"], "loss": loss}
            rows.append(shown | {key: value for key, value in entry.items() if key in _MEASURES})
    return rows


def _public(name: str | None) -> str | None:
    """Return a repository's name; None for a local path, which must not be published."""
    return None if name is None or Path(name).exists() else name
