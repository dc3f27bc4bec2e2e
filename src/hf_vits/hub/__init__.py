"""Sharing models: pushing them, their cards, and the code they carry along.

The names are imported on first use, so that the facts of `hf_vits.hub.facts` can be read without PyTorch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bundle import write_bundle
    from .card import Card, TrainingSummary, model_card, trained_card
    from .push import push_space, push_to_hub, save_for_hub

_MODULES = {
    "Card": ".card",
    "TrainingSummary": ".card",
    "model_card": ".card",
    "push_space": ".push",
    "push_to_hub": ".push",
    "save_for_hub": ".push",
    "trained_card": ".card",
    "write_bundle": ".bundle",
}

__all__ = [
    "Card",
    "TrainingSummary",
    "model_card",
    "push_space",
    "push_to_hub",
    "save_for_hub",
    "trained_card",
    "write_bundle",
]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
