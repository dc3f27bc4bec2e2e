"""JSON Lines tables of audio files with their class labels or texts: one table, or a directory with one per split."""

from ..tables import READS, load, load_texts

__all__ = ["READS", "load", "load_texts"]
