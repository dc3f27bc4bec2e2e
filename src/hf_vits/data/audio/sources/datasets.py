"""A dataset that `datasets.load_dataset` loads, with a column of recordings and one of classes or texts."""

import datasets
import numpy as np

from hf_vits.data.columns import (
    DATASETS,
    STREAMS,
    input_column,
    load_dataset_classes,
    load_dataset_splits,
    name_of,
    stream_dataset_classes,
)
from hf_vits.data.splits import ColumnInputs, Loaded, Split
from hf_vits.data.tables import TARGET_KEYS, TEXT_COLUMNS, column_name
from hf_vits.recipe import DataRecipe

READS = (*DATASETS, "columns.audio", "columns.text", *TARGET_KEYS, *STREAMS)


def load(recipe: DataRecipe) -> Loaded:
    """Load the dataset data.path, a name on the Hub or a local directory, with its classes."""
    if recipe.streaming:
        name, class_names, splits = stream_dataset_classes(recipe, "audio", datasets.Audio, lambda clips: clips)
        stored = {"train": splits.pop("train")}
    else:
        name, class_names, splits = load_dataset_classes(recipe, "audio", datasets.Audio)
        stored = {}
    stored |= {kind: Split(_undecoded(split.inputs), split.labels) for kind, split in splits.items()}
    return Loaded(name, class_names, stored)


def load_texts(recipe: DataRecipe) -> Loaded:
    """Load the dataset data.path, a name on the Hub or a local directory, with its texts."""
    if recipe.streaming:
        raise ValueError("data.streaming: speech recognition sorts recordings by length, which a stream has not")
    splits = {}
    for kind, dataset in load_dataset_splits(recipe).items():
        inputs = ColumnInputs(dataset, input_column(recipe, dataset, "audio", datasets.Audio))
        texts = dataset[column_name(recipe, dataset.features, "text", TEXT_COLUMNS)]
        splits[kind] = Split(_undecoded(inputs), np.asarray([str(text) for text in texts], dtype=object))
    return Loaded(name_of(recipe), (), splits)


def _undecoded(clips: ColumnInputs) -> ColumnInputs:
    """Return the recordings as they are stored: `datasets` decodes with torchcodec, which may not be installed."""
    dataset = clips.dataset.select_columns([clips.column])
    return ColumnInputs(dataset.cast_column(clips.column, datasets.Audio(decode=False)), clips.column)
