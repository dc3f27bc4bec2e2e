"""Images listed in a table, which `sources/csv.py` and `sources/jsonl.py` offer."""

from hf_vits.data.splits import Loaded, in_files
from hf_vits.data.tables import TARGET_KEYS, load_class_table, table_name
from hf_vits.recipe import DataRecipe

from . import IMAGES, FileImages

READS = ("path", "splits", "skip_unreadable", "columns.image", "columns.split", *TARGET_KEYS)


def load(recipe: DataRecipe) -> Loaded:
    """Load the rows of the table data.path, or of the tables in that directory, with their classes."""
    return in_files(table_name(recipe), load_class_table(recipe, IMAGES, "image"), FileImages)
