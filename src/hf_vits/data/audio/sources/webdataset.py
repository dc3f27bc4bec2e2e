"""WebDataset's tar archives of recordings with a class each; training reads them as a stream, see `data.tars`."""

from hf_vits.data.splits import Loaded
from hf_vits.data.tars import READS, load_tars
from hf_vits.recipe import DataRecipe

from .. import AUDIO, EncodedClips

__all__ = ["READS", "load"]


def load(recipe: DataRecipe) -> Loaded:
    """Load the archives in data.path, a folder or an address."""
    return load_tars(recipe, AUDIO, EncodedClips)
