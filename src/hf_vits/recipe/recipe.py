"""A whole recipe, section by section."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub.dataclasses import strict

from .augmentation import AudioRecipe, AugmentationRecipe, VideoRecipe
from .continual import ContinualRecipe
from .data import DataRecipe
from .fields import positive
from .model import ModelRecipe, TeacherRecipe, TokenizerRecipe
from .optimization import ObjectiveRecipe, OptimizerRecipe, ScheduleRecipe, TrainRecipe
from .pretraining import MaskRecipe, MomentumTeacherRecipe, NeighboursRecipe, PriorsRecipe, ViewsRecipe

# Tasks whose models can predict numbers in place of classes.
_REGRESSIONS = ("image-classification", "video-classification", "audio-classification")


@strict
@dataclass(kw_only=True)
class OutputRecipe:
    """Files that the run writes.

    directory: directory for the model, its processor, card, figures, history and checkpoints.
    keep_checkpoints: number of newest checkpoints to keep; one is enough to resume.
    best: metric of the evaluations during training, such as accuracy, whose best weights are kept and become the
        finished model; of names that end in loss or error_rate and of mse and mae the lowest value is the best. None:
        the last weights.
    push_to_hub: Hub repository to push the finished model to. None: nothing is pushed.
    private: create that repository as private (true) or public (false). None: the default of the user or organisation.
    """

    directory: str
    keep_checkpoints: int = positive(default=1)
    best: str | None = None
    push_to_hub: str | None = None
    private: bool | None = None


@strict
@dataclass(kw_only=True)
class Recipe:
    """A training run: one section per aspect, each a dataclass that describes its own keys.

    model: model to train and its initial weights.
    data: data to train, validate and test on.
    optimizer: optimizer and its parameters.
    train: length, batches, precision and checkpoints of the run.
    output: files that the run writes.
    task: what the model is trained for: transformers' name of its pipeline, such as image-classification, or
        `pretraining` (images) and `multimodal-pretraining` (videos with sound and captions), without labels.
    augmentation: augmentation of training images and clips.
    audio: augmentation of training recordings.
    video: views of a video in the final evaluation.
    objective: loss to minimise.
    teacher: classifier to distil from. None: no distillation.
    tokenizer: tokenizer to learn for speech recognition. None: the pretrained model's.
    views: views of each image, for self-supervised methods that compare them. None: one view per image.
    masks: masks over patches, for iBOT. None: for all other methods.
    priors: spatial priors of the heads' attention, for SPAN. None: for all other methods.
    momentum_teacher: teacher of a self-distillation method. None: for methods without a teacher.
    neighbours: k-nearest-neighbour classifier at every evaluation of a pretraining run. None: off.
    continual: stream of tasks, for continual-image-classification. None: for all other tasks.
    schedule: learning rate over the run.
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
    priors: PriorsRecipe | None = None
    momentum_teacher: MomentumTeacherRecipe | None = None
    neighbours: NeighboursRecipe | None = None
    continual: ContinualRecipe | None = None
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)

    def validate_randaugment(self):
        randaugment = self.augmentation.randaugment
        if randaugment and randaugment.policy == "scenic" and self.task != "video-classification":
            raise ValueError(f"augmentation.randaugment.policy: scenic is for clips, but the task is {self.task}")

    def validate_targets(self):
        has_targets, is_regression = "targets" in self.data.columns, self.objective.loss == "mse"
        if has_targets and self.task not in _REGRESSIONS:
            raise ValueError(f"data.columns.targets is for {', '.join(_REGRESSIONS)}, but the task is {self.task}")
        if has_targets != is_regression and self.task in _REGRESSIONS:
            raise ValueError(
                "data.columns.targets, the numbers to predict, and objective.loss: mse go together, got "
                f"objective.loss: {self.objective.loss} {'with' if has_targets else 'without'} data.columns.targets"
            )
        if is_regression and (self.augmentation.cutmix or self.objective.distillation != "none"):
            raise ValueError("objective.loss: mse goes without augmentation.cutmix and objective.distillation")

    def validate_best(self):
        if self.output.best is not None and self.train.evaluate_every is None:
            raise ValueError("output.best chooses among evaluations: set train.evaluate_every")
        if self.train.early_stopping is not None and self.output.best is None:
            raise ValueError("train.early_stopping needs output.best, the metric to watch, such as accuracy")

    def validate_teacher(self):
        if (self.teacher is None) != (self.objective.distillation == "none"):
            raise ValueError(
                f"objective.distillation is {self.objective.distillation}, and there is "
                f"{'no' if self.teacher is None else 'a'} teacher: distillation needs both"
            )

    def validate_continual(self):
        if (self.continual is None) == (self.task == "continual-image-classification"):
            raise ValueError(
                f"the section continual and the task continual-image-classification go together, got task {self.task}"
                f"{' without it' if self.continual is None else ''}"
            )
        stream: Any = self.continual
        if stream is None:
            return
        if self.data.domains:
            given = [name for name in ("tasks", "first", "order", "order_seed") if getattr(stream, name) is not None]
            if given or stream.pod or stream.per_head:
                raise ValueError(
                    "continual: tasks, first, order, order_seed, pod and per_head are for streams of classes; leave "
                    "them out with data.domains, of which each is a task with all classes"
                )
        elif stream.tasks is None:
            raise ValueError("continual.tasks: a stream of classes needs the number of its tasks")

    def to_dict(self) -> dict[str, Any]:
        """Return every key with its value, defaults included, as `load_recipe` reads it."""
        return dataclasses.asdict(self)
