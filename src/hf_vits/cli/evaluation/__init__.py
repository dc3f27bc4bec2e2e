"""`hf-vits evaluate` by its method: one module per --method.

Each has OPTIONS, {option that is its own: default}, `configure`, which declares these, evaluate(args), which returns
what JSON can hold, and show(result).
"""

import importlib
from types import ModuleType

# {--method: module below}
METHODS = {"classify": "classification", "knn": "neighbours", "linear": "linear_probe", "low-shot": "low_shot"}


def load(method: str) -> ModuleType:
    return importlib.import_module(f".{METHODS[method]}", __package__)
