"""A dataset that `datasets.load_dataset` loads, with a column of videos and one of classes."""

from typing import Any

import datasets

from hf_vits.data.columns import DATASETS, STREAMS, load_dataset_classes, stream_dataset_classes
from hf_vits.data.splits import ColumnInputs, Loaded, Split
from hf_vits.data.tables import TARGET_KEYS
from hf_vits.recipe import DataRecipe

from .. import StoredVideos

READS = (*DATASETS, "columns.video", *TARGET_KEYS, *STREAMS)


def load(recipe: DataRecipe) -> Loaded:
    """Load the dataset data.path, a name on the Hub or a local directory."""
    if not recipe.streaming:
        name, class_names, splits = load_dataset_classes(recipe, "video", datasets.Video)
        return Loaded(name, class_names, {kind: _undecoded(split) for kind, split in splits.items()})
    name, class_names, splits = stream_dataset_classes(recipe, "video", datasets.Video, StoredVideos)
    return Loaded(
        name, class_names, {kind: one if kind == "train" else _undecoded(one) for kind, one in splits.items()}
    )


def _undecoded(split: Split) -> Split:
    """Return the videos as they are stored: `datasets` decodes with torchcodec, which may not be installed."""
    column: Any = split.inputs
    dataset = column.dataset.select_columns([column.column]).cast_column(column.column, datasets.Video(decode=False))
    return Split(StoredVideos(ColumnInputs(dataset, column.column)), split.labels)
