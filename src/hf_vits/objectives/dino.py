"""Self-distillation without labels: DINO, arXiv 2104.14294 (facebookresearch/dino, main_dino.py, `DINOLoss`)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .centering import Center


def check_temperatures(**temperatures: float) -> None:
    """Raise ValueError for a temperature, given by its name, that is not positive."""
    for name, value in temperatures.items():
        if value <= 0:
            raise ValueError(f"{name} must be positive, got {value}")


def check_views(student: Tensor, teacher: Tensor) -> None:
    """Raise ValueError unless the shapes are (crops, batch, size) and (views, batch, size), with crops >= views."""
    if student.ndim != 3 or teacher.ndim != 3 or student.shape[1:] != teacher.shape[1:]:
        raise ValueError(
            "the student's outputs must be (crops, batch, size) and the teacher's (views, batch, size), got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    if len(student) < 2 or len(student) < len(teacher):
        raise ValueError(
            f"the student must see at least two crops, the teacher's {len(teacher)} views first, got {len(student)}"
        )


def number_of_pairs(num_crops: int, num_views: int) -> int:
    """Return how many pairs there are of a student's crop and a teacher's view other than that crop."""
    return num_views * (num_crops - 1)


def cross_view_entropy(student: Tensor, targets: Tensor, temperature: float, mixing: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of every crop with every other view of the teacher, averaged over pairs and batch.

    Args:
        student: (crops, batch, size) logits; the first crops are the views that the teacher sees.
        targets: (views, batch, size) probabilities.
        temperature: divides the logits.
        mixing: (crops, batch, batch) weights, if the student's crops are mixed from images of the batch (MixUp,
            CutMix): row i, column j is the weight of image i in the student's image j. None: images are not mixed.
    """
    total: Any = 0.0
    for crop, logits in enumerate(student):
        # Cross-entropy is linear in the target: that with the sum of the targets is the sum over a crop's pairs.
        target: Any = sum(view for index, view in enumerate(targets) if index != crop)
        if mixing is not None:
            target = mixing[crop].to(target.dtype).T @ target
        total = total + F.cross_entropy(logits.float() / temperature, target, reduction="sum")
    return total / (number_of_pairs(len(student), len(targets)) * student.shape[1])


class DINOLoss(nn.Module):
    """Cross-entropy between the teacher's centred, sharpened outputs and the student's, across views of an image.

    EsViT's loss over views is the same and allows mixed images (microsoft/esvit, main_esvit.py).

    Args:
        size: number of output dimensions.
        student_temperature, teacher_temperature: divide the logits. `teacher_temperature` is an attribute that a
            schedule may change between steps.
        center_momentum: weight of the old centre at each update.
    """

    def __init__(
        self,
        size: int,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
    ):
        super().__init__()
        check_temperatures(student_temperature=student_temperature, teacher_temperature=teacher_temperature)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.center = Center(size, center_momentum)

    def forward(
        self, student: Tensor, teacher: Tensor, mixing: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch; in training mode, then move the centre towards the teacher's outputs.

        Args:
            student: (crops, batch, size) logits; the first crops are the views that the teacher sees.
            teacher: (views, batch, size) logits, which receive no gradient.
            mixing: as in `cross_view_entropy`.
        """
        check_views(student, teacher)
        targets = self.center.sharpen(teacher, self.teacher_temperature)
        loss = cross_view_entropy(student, targets, self.student_temperature, mixing)
        if self.training:
            self.center.update(teacher.flatten(0, 1).float().mean(dim=0))
        return loss, {}
