"""CSV tables of video files with captions and classes: one table, or a directory with one per split."""

from ..tables import READS, load

__all__ = ["READS", "load"]
