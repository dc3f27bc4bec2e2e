"""Sharing models: pushing them, their cards, and the code they carry along."""

from .bundle import write_bundle
from .card import Card, TrainingSummary, model_card, trained_card
from .push import push_to_hub, save_for_hub

__all__ = ["Card", "TrainingSummary", "model_card", "push_to_hub", "save_for_hub", "trained_card", "write_bundle"]
