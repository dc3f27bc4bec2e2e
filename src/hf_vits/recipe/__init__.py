"""Recipes: the YAML file of a training run, read into dataclasses that check every key and value."""

from .augmentation import (
    AffineRecipe,
    AudioRecipe,
    AugmentationRecipe,
    RandAugmentRecipe,
    ScaleJitterRecipe,
    SpecAugmentRecipe,
    VideoRecipe,
)
from .continual import ContinualRecipe
from .data import DataRecipe, DomainRecipe, SpeechRecipe
from .descriptions import field_descriptions
from .loading import flat, load_recipe
from .model import (
    InitializationRecipe,
    ModelRecipe,
    ProbeRecipe,
    SegmentationRecipe,
    TeacherRecipe,
    TokenizerRecipe,
)
from .optimization import ObjectiveRecipe, OptimizerRecipe, ScheduleRecipe, TrainRecipe
from .pretraining import MaskRecipe, MomentumTeacherRecipe, NeighboursRecipe, ViewsRecipe
from .recipe import OutputRecipe, Recipe

__all__ = [
    "AffineRecipe",
    "AudioRecipe",
    "AugmentationRecipe",
    "ContinualRecipe",
    "DataRecipe",
    "DomainRecipe",
    "InitializationRecipe",
    "MaskRecipe",
    "ModelRecipe",
    "MomentumTeacherRecipe",
    "NeighboursRecipe",
    "ObjectiveRecipe",
    "OptimizerRecipe",
    "OutputRecipe",
    "ProbeRecipe",
    "RandAugmentRecipe",
    "Recipe",
    "ScaleJitterRecipe",
    "ScheduleRecipe",
    "SegmentationRecipe",
    "SpecAugmentRecipe",
    "SpeechRecipe",
    "TeacherRecipe",
    "TokenizerRecipe",
    "TrainRecipe",
    "VideoRecipe",
    "ViewsRecipe",
    "field_descriptions",
    "flat",
    "load_recipe",
]
