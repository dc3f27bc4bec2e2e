"""Videos listed in a table, which `sources/csv.py` and `sources/jsonl.py` offer."""

from hf_vits.data.folders import Media
from hf_vits.data.splits import Loaded, in_files
from hf_vits.data.tables import TARGET_KEYS, load_class_table, table_name
from hf_vits.recipe import DataRecipe

from . import VIDEOS, FileVideos

READS = ("path", "splits", "skip_unreadable", "columns.video", "columns.split", *TARGET_KEYS)


def load(recipe: DataRecipe, media: Media = VIDEOS) -> Loaded:
    """Load the rows of the table data.path, or of the tables in that directory; `media` checks the files."""
    return in_files(table_name(recipe), load_class_table(recipe, media, "video"), FileVideos)
