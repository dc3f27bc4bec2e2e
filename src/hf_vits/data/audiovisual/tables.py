"""Videos listed in a table with captions, which `sources/csv.py` and `sources/jsonl.py` offer.

Rows of the same video are captions of it, one a row; an empty one is none. Captions and classes are optional.
"""

from pathlib import Path

import numpy as np

from hf_vits.data.splits import Loaded, Split
from hf_vits.data.tables import (
    LABEL_COLUMNS,
    TEXT_COLUMNS,
    Row,
    column,
    label_indices,
    load_rows,
    sorted_classes,
    table_name,
)
from hf_vits.recipe import DataRecipe

from ..videos import VIDEOS
from . import CaptionedVideo, CaptionedVideos

READS = ("path", "splits", "skip_unreadable", "captions")
READS += ("columns.video", "columns.text", "columns.label", "columns.split")


def load(recipe: DataRecipe) -> Loaded:
    """Load the rows of the table data.path, or of the tables in that directory.

    Raises:
        ValueError: as `load_rows`, or another split has a class that training lacks.
    """
    videos, classes = {}, {}
    for kind, (paths, rows) in load_rows(recipe, VIDEOS, "video").items():
        texts, names = (
            optional(recipe, rows, key, usual) for key, usual in (("text", TEXT_COLUMNS), ("label", LABEL_COLUMNS))
        )
        captions: dict[Path, list[str]] = {}
        for path, text in zip(paths, texts, strict=True):
            captions.setdefault(path, []).extend([text] if text.strip() else [])
        videos[kind] = CaptionedVideos([CaptionedVideo(path, tuple(own)) for path, own in captions.items()])
        class_of = dict(zip(paths, names, strict=True))
        classes[kind] = [class_of[path] for path in captions]
    class_names = sorted_classes(classes["train"]) if all(map(all, classes.values())) else []
    splits = {}
    for kind, names in classes.items():
        labels = label_indices(str(recipe.path), kind, names, class_names) if class_names else np.full(len(names), -1)
        splits[kind] = Split(videos[kind], labels)
    return Loaded(table_name(recipe), class_names, splits)


def optional(recipe: DataRecipe, rows: list[Row], key: str, usual: tuple[str, ...]) -> list[str]:
    """Return the values of a column, empty ones without it; ValueError if data.columns names one that is not there."""
    if key not in recipe.columns and not {key, *usual} & rows[0].keys():
        return [""] * len(rows)
    return column(recipe, rows, key, usual)
