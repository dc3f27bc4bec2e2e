"""The teacher of a distillation: any image classifier, fed with the student's images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_vits.recipe import TeacherRecipe


class Teacher(nn.Module):
    """A frozen classifier that takes images normalised for the student.

    Images are denormalised, brought to the teacher's size where it differs (bilinear) and normalised for the teacher.
    """

    mean: Tensor
    std: Tensor
    student_mean: Tensor
    student_std: Tensor

    def __init__(self, model: nn.Module, processor, student_processor):
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        size = getattr(model.config, "image_size", None)
        self.size = (size, size) if isinstance(size, int) else size and tuple(size)
        for name, value in _statistics(processor).items():
            self.register_buffer(name, value)
        for name, value in _statistics(student_processor).items():
            self.register_buffer(f"student_{name}", value)

    @torch.no_grad()
    def forward(self, pixel_values: Tensor) -> Tensor:
        """(batch, channels, height, width), the student's, to the teacher's logits (batch, classes)."""
        images = pixel_values * self.student_std + self.student_mean
        if self.size is not None and self.size != tuple(images.shape[-2:]):
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return self.model(pixel_values=(images - self.mean) / self.std).logits

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in evaluation mode."""
        return super().train(False)


def load_teacher(recipe: TeacherRecipe, student_processor, num_labels: int) -> Teacher:
    """Load the recipe's teacher; ValueError if it does not tell as many classes as the student learns."""
    model = AutoModelForImageClassification.from_pretrained(recipe.pretrained, revision=recipe.revision)
    if model.config.num_labels != num_labels:
        raise ValueError(
            f"teacher {recipe.pretrained} tells {model.config.num_labels} classes, the data have {num_labels}"
        )
    processor = AutoImageProcessor.from_pretrained(recipe.pretrained, revision=recipe.revision)
    return Teacher(model, processor, student_processor)


def _statistics(processor) -> dict[str, Tensor]:
    """Mean and standard deviation of a processor's normalisation, shaped to broadcast over images."""
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
    return {name: torch.tensor(value).reshape(-1, 1, 1) for name, value in {"mean": mean, "std": std}.items()}
