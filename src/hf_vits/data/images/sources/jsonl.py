"""JSON Lines tables of image files with their class labels: one table, or a directory with one per split."""

from ..tables import READS, load

__all__ = ["READS", "load"]
