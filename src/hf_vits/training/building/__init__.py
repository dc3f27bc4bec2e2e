"""From a recipe to the objects of a run: the model with its processor, and the trainer."""

from .model import build_model
from .trainer import assemble_trainer

__all__ = ["assemble_trainer", "build_model"]
