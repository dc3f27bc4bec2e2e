"""The teacher of a distillation: any image classifier, given the student's images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_vits.files import reading
from hf_vits.recipe import TeacherRecipe

from ..class_order import class_order


class Teacher(nn.Module):
    """A frozen classifier that takes images normalised for the student.

    Images are denormalised, resized to the teacher's size if it differs (bilinear) and normalised for the teacher.

    Args:
        order: position of each of the student's classes among the teacher's; None: the same.
    """

    order: Tensor | None
    mean: Tensor
    std: Tensor
    student_mean: Tensor
    student_std: Tensor

    def __init__(self, model: nn.Module, processor, student_processor, order: list[int] | None = None):
        super().__init__()
        self.register_buffer("order", None if order is None else torch.tensor(order))
        self.model = model.eval().requires_grad_(False)
        size = getattr(model.config, "image_size", None)
        self.size = (size, size) if isinstance(size, int) else size and tuple(size)
        for name, value in _statistics(processor).items():
            self.register_buffer(name, value)
        for name, value in _statistics(student_processor).items():
            self.register_buffer(f"student_{name}", value)

    @torch.no_grad()
    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the teacher's logits (batch, classes) of the student's images (batch, channels, height, width)."""
        images = pixel_values * self.student_std + self.student_mean
        if self.size is not None and self.size != tuple(images.shape[-2:]):
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        logits = self.model(pixel_values=(images - self.mean) / self.std).logits
        return logits if self.order is None else logits[:, self.order]

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode."""
        return super().train(False)


def load_teacher(recipe: TeacherRecipe, student_processor, class_names: Sequence[str]) -> Teacher:
    """Load the recipe's teacher, whose classes are matched with the data's by name.

    Raises:
        ValueError: the teacher has another number of classes, or other classes beside some of the same names.
    """
    with reading(recipe.pretrained):
        model = AutoModelForImageClassification.from_pretrained(recipe.pretrained, revision=recipe.revision)
    if model.config.num_labels != len(class_names):
        raise ValueError(
            f"teacher {recipe.pretrained} has {model.config.num_labels} classes, the data have {len(class_names)}"
        )
    try:
        order = class_order(model.config.id2label, class_names)
    except ValueError as error:
        raise ValueError(f"teacher {recipe.pretrained} was trained for other classes: {error}") from error
    with reading(recipe.pretrained):
        processor = AutoImageProcessor.from_pretrained(recipe.pretrained, revision=recipe.revision)
    return Teacher(model, processor, student_processor, order)


def _statistics(processor) -> dict[str, Tensor]:
    """Return mean and std of a processor's normalisation, shaped to broadcast over images."""
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    return {name: torch.tensor(value).reshape(-1, 1, 1) for name, value in {"mean": mean, "std": std}.items()}
