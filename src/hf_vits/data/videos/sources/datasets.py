"""A dataset that `datasets.load_dataset` loads, with a column of videos and one of classes."""

import datasets

from hf_vits.data.columns import DATASETS, load_dataset_classes
from hf_vits.data.splits import ColumnInputs, Loaded, Split
from hf_vits.data.tables import TARGET_KEYS
from hf_vits.recipe import DataRecipe

from .. import ColumnVideos

READS = (*DATASETS, "columns.video", *TARGET_KEYS)


def load(recipe: DataRecipe) -> Loaded:
    """Load the dataset data.path, a name on the Hub or a local directory."""
    name, class_names, splits = load_dataset_classes(recipe, "video", datasets.Video)
    stored = {kind: Split(_undecoded(split.inputs), split.labels) for kind, split in splits.items()}
    return Loaded(name, class_names, stored)


def _undecoded(videos: ColumnInputs) -> ColumnVideos:
    """Return the videos as they are stored: `datasets` decodes with torchcodec, which may not be installed."""
    dataset = videos.dataset.select_columns([videos.column])
    return ColumnVideos(dataset.cast_column(videos.column, datasets.Video(decode=False)), videos.column)
