"""A whole recipe: what a training run is, section by section."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub.dataclasses import strict

from .augmentation import AudioRecipe, AugmentationRecipe, VideoRecipe
from .data import DataRecipe
from .fields import positive
from .model import ModelRecipe, TeacherRecipe, TokenizerRecipe
from .optimization import ObjectiveRecipe, OptimizerRecipe, ScheduleRecipe, TrainRecipe
from .pretraining import MaskRecipe, MomentumTeacherRecipe, NeighboursRecipe, ViewsRecipe


@strict
@dataclass(kw_only=True)
class OutputRecipe:
    """Where results go.

    directory: model, processor, card, figures, history and checkpoints.
    keep_checkpoints: how many to keep; the last one is enough to resume.
    push_to_hub: repository to push the finished model to.
    private: whether that repository is made private.
    """

    directory: str
    keep_checkpoints: int = positive(default=1)
    push_to_hub: str | None = None
    private: bool | None = None


@strict
@dataclass(kw_only=True)
class Recipe:
    """A training run; each section is described by its class.

    task: what the model does, by the name of transformers' pipeline for it, or `pretraining` without labels.
    """

    model: ModelRecipe
    data: DataRecipe
    optimizer: OptimizerRecipe
    train: TrainRecipe
    output: OutputRecipe
    task: str = "image-classification"
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    audio: AudioRecipe = field(default_factory=AudioRecipe)
    video: VideoRecipe = field(default_factory=VideoRecipe)
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    teacher: TeacherRecipe | None = None
    tokenizer: TokenizerRecipe | None = None
    views: ViewsRecipe | None = None
    masks: MaskRecipe | None = None
    momentum_teacher: MomentumTeacherRecipe | None = None
    neighbours: NeighboursRecipe | None = None
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)

    def validate_randaugment(self):
        randaugment = self.augmentation.randaugment
        if randaugment and randaugment.policy == "scenic" and self.task != "video-classification":
            raise ValueError(f"augmentation.randaugment.policy: scenic is for clips, task is {self.task}")

    def validate_teacher(self):
        if (self.teacher is None) != (self.objective.distillation == "none"):
            raise ValueError(
                f"objective.distillation is {self.objective.distillation}, and there is "
                f"{'no' if self.teacher is None else 'a'} teacher: distillation needs both"
            )

    def to_dict(self) -> dict[str, Any]:
        """Every key with its value, defaults included, as `load_recipe` reads it."""
        return dataclasses.asdict(self)
