"""Conversion of original checkpoints to hf_vits models, and of transformers' own models to ours and back.

One module per original system holds its published variants and the mapping of its keys; `core` has the common steps,
`search` finds system and variant of a file.
"""

from .checkpoint import load_checkpoint
from .converting import convert
from .core import SYSTEMS, from_transformers, original_fields, processor, system, to_transformers, variants
from .repositories import load
from .search import find

__all__ = [
    "SYSTEMS",
    "convert",
    "find",
    "from_transformers",
    "load",
    "load_checkpoint",
    "original_fields",
    "processor",
    "system",
    "to_transformers",
    "variants",
]
