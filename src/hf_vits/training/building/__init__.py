"""From a recipe to the objects of a run: the model with its processor, and the trainer."""

from .model import build_model
from .trainer import build_trainer

__all__ = ["build_model", "build_trainer"]
