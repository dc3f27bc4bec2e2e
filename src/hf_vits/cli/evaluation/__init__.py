"""The methods of `hf-vits evaluate`: one module per --method.

Each has OPTIONS, {own option: default}, `configure(group)`, which declares these options, `evaluate(args)`, which
returns a JSON-serialisable result, and `show(result)`, which prints it.
"""

import importlib
from types import ModuleType

# {--method: module of this package}
METHODS = {
    "classify": "classification",
    "segment": "segmentation",
    "exits": "exits",
    "knn": "neighbours",
    "linear": "linear_probe",
    "low-shot": "low_shot",
    "prototypes": "prototypes",
    "propagate": "propagation",
}
# Methods that measure on images with masks.
MASKED = {
    "clusters": "clusters",
    "foreground": "foreground",
    "communities": "communities",
    "segmentation": "segmentation_head",
}
METHODS |= MASKED


def default(model: str) -> str:
    """Return the method for a model, a folder or repository, where none is named."""
    from ..models import class_of, load_config

    return "segment" if class_of(load_config(model)).__name__.endswith("ForSemanticSegmentation") else "classify"


def load(method: str) -> ModuleType:
    """Import the module of a method."""
    return importlib.import_module(f".{METHODS[method]}", __package__)
