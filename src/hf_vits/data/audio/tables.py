"""Recordings listed in a table, which `sources/csv.py` and `sources/jsonl.py` offer."""

import numpy as np

from hf_vits.data.splits import Loaded, Split, in_files
from hf_vits.data.tables import TARGET_KEYS, TEXT_COLUMNS, load_class_table, load_table, table_name
from hf_vits.recipe import DataRecipe

from . import AUDIO, FileClips

READS = ("path", "splits", "skip_unreadable", "columns.audio", "columns.text", "columns.split", *TARGET_KEYS)


def load(recipe: DataRecipe) -> Loaded:
    """Load the rows of the table data.path, or of the tables in that directory, with their classes."""
    return in_files(table_name(recipe), load_class_table(recipe, AUDIO, "audio"), FileClips)


def load_texts(recipe: DataRecipe) -> Loaded:
    """Load the rows of the table data.path, or of the tables in that directory, with their texts."""
    files = load_table(recipe, AUDIO, "audio", "text", TEXT_COLUMNS)
    splits = {kind: Split(FileClips(paths), np.asarray(texts, dtype=object)) for kind, (paths, texts) in files.items()}
    return Loaded(table_name(recipe), (), splits)
