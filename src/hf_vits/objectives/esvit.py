"""Self-distillation of views and of regions: EsViT, arXiv 2106.09785 (microsoft/esvit, main_esvit.py, `DDINOLoss`).

EsViT without regions has the loss of DINO, `DINOLoss`.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .centering import Center
from .dino import DINOLoss, number_of_pairs


@torch.no_grad()
def match_regions(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Find the teacher's most similar region for each region of the student, by the cosine of backbone features.

    Args:
        student_features: (batch, student regions, channels).
        teacher_features: (batch, teacher regions, channels).

    Returns:
        (batch, student regions), indices of the teacher's regions.
    """
    student, teacher = (F.normalize(features.float(), dim=-1) for features in (student_features, teacher_features))
    return (student @ teacher.transpose(1, 2)).argmax(dim=2)


class EsViTLoss(DINOLoss):
    """Mean of DINO's loss over views and of a loss over regions, each region against its best match in another view.

    Args:
        size: number of output dimensions of both heads.
        student_temperature, teacher_temperature: divide the logits of both. The teacher's is an attribute that a
            schedule may change between steps.
        center_momentum: weight of the old centre, of views and of regions, at each update.
    """

    def __init__(
        self,
        size: int,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
    ):
        super().__init__(size, student_temperature, teacher_temperature, center_momentum)
        self.region_center = Center(size, center_momentum)

    def forward(
        self,
        student_views: Tensor,
        teacher_views: Tensor,
        student_regions: Sequence[Tensor],
        teacher_regions: Tensor,
        student_features: Sequence[Tensor],
        teacher_features: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch; in training mode, then move both centres towards the teacher's outputs.

        Args:
            student_views: (crops, batch, size) logits; the first crops are the views that the teacher sees.
            teacher_views: (views, batch, size) logits.
            student_regions: logits (batch, regions, size) of each crop, whose numbers of regions may differ.
            teacher_regions: (views, batch, regions, size) logits.
            student_features: backbone features (batch, regions, channels) of each crop, which choose the matches.
            teacher_features: (views, batch, regions, channels).

        Returns:
            The loss, and its parts `view_loss` and `region_loss`; the loss is their mean.
        """
        view_loss, _ = super().forward(student_views, teacher_views)
        region_targets = self.region_center.sharpen(teacher_regions, self.teacher_temperature)
        region_loss = self.region_loss(student_regions, region_targets, student_features, teacher_features)
        if self.training:
            self.region_center.update(teacher_regions.flatten(0, 2).float().mean(dim=0))
        logged = {"view_loss": view_loss.detach(), "region_loss": region_loss.detach()}
        return (view_loss + region_loss) / 2, logged

    def region_loss(
        self,
        student: Sequence[Tensor],
        targets: Tensor,
        student_features: Sequence[Tensor],
        teacher_features: Tensor,
    ) -> Tensor:
        """Return the cross-entropy, averaged over the regions of each crop, then over pairs of crop and other view.

        Args:
            student: logits (batch, regions, size) of each crop.
            targets: (views, batch, regions, size) probabilities.
            student_features, teacher_features: as in `forward`.
        """
        total: Any = 0.0
        for crop, (logits, features) in enumerate(zip(student, student_features, strict=True)):
            others = [view for view in range(len(targets)) if view != crop]
            target: Any = sum(self.matched(targets[view], features, teacher_features[view]) for view in others)
            logits = logits.float() / self.student_temperature
            losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1), reduction="sum")
            total = total + losses / logits[..., 0].numel()
        return total / number_of_pairs(len(student), len(targets))

    @staticmethod
    def matched(targets: Tensor, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        """Select from targets (batch, teacher regions, size) the best matches: (batch, student regions, size)."""
        match = match_regions(student_features, teacher_features)
        return targets.gather(1, match[..., None].expand(-1, -1, targets.shape[-1]))
