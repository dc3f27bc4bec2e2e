"""Masked image modelling with an online tokenizer: iBOT, arXiv 2111.07832 (bytedance/ibot, main_ibot.py, `iBOTLoss`).

AttMask, arXiv 2203.12719, uses the same loss.
"""

import torch.nn.functional as F
from torch import Tensor

from .centering import Center
from .dino import DINOLoss, check_temperatures


class IBOTLoss(DINOLoss):
    """Sum of DINO's loss on the class tokens of views and a cross-entropy on masked patches.

    The target of a masked patch is the teacher's output for the same patch of the same view, which the teacher sees
    unmasked. The loss does not depend on whether class tokens and patches share a head; if they do, `class_size` and
    `patch_size` are equal.

    Args:
        class_size, patch_size: number of output dimensions for class tokens and for patches.
        student_temperature: divides the student's logits.
        teacher_temperature, teacher_patch_temperature: divide the teacher's logits; attributes that a schedule may
            change between steps.
        class_weight, patch_weight: factors of the two parts.
        center_momentum, patch_center_momentum: weight of the old centre at each update.
    """

    def __init__(
        self,
        class_size: int,
        patch_size: int,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        teacher_patch_temperature: float = 0.04,
        class_weight: float = 1.0,
        patch_weight: float = 1.0,
        center_momentum: float = 0.9,
        patch_center_momentum: float = 0.9,
    ):
        super().__init__(class_size, student_temperature, teacher_temperature, center_momentum)
        check_temperatures(teacher_patch_temperature=teacher_patch_temperature)
        self.teacher_patch_temperature = teacher_patch_temperature
        self.class_weight = class_weight
        self.patch_weight = patch_weight
        self.patch_center = Center(patch_size, patch_center_momentum)

    def forward(
        self,
        student_class: Tensor,
        teacher_class: Tensor,
        student_patches: Tensor,
        teacher_patches: Tensor,
        mask: Tensor,
        teacher_patch_mean: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch; in training mode, then move both centres towards the teacher's outputs.

        Logits of patches are those of masked patches alone, in the order of `mask`: the heads need not run on others.

        Args:
            student_class: (crops, batch, class_size) logits; the first crops are the views that the teacher sees.
            teacher_class: (views, batch, class_size) logits.
            student_patches, teacher_patches: (masked patches, patch_size) logits.
            mask: (views, batch, patches), True where a patch is masked.
            teacher_patch_mean: (patch_size,), mean of the teacher's logits over ALL patches of the batch's views.

        Returns:
            The loss, and its parts `class_loss` and `patch_loss`, each times its weight.
        """
        if mask.shape[:2] != teacher_class.shape[:2] or mask.ndim != 3:
            raise ValueError(
                f"mask must be (views, batch, patches) = {(*teacher_class.shape[:2], 'patches')}, got "
                f"{tuple(mask.shape)}"
            )
        class_loss = self.class_weight * super().forward(student_class, teacher_class)[0]
        patch_loss = self.patch_weight * self.masked_patch_loss(student_patches, teacher_patches, mask)
        if self.training:
            self.patch_center.update(teacher_patch_mean)
        logged = {"class_loss": class_loss.detach(), "patch_loss": patch_loss.detach()}
        return class_loss + patch_loss, logged

    def masked_patch_loss(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """Return the cross-entropy, averaged over the masked patches of each view, then over views.

        A view without masked patches counts as 0.

        Args:
            student, teacher: (masked patches, patch_size) logits.
            mask: (views, batch, patches), True where a patch is masked.
        """
        targets = self.patch_center.sharpen(teacher, self.teacher_patch_temperature)
        logits = student.float() / self.student_temperature
        weight = 1 / mask.sum(dim=-1, keepdim=True).clamp(min=1)
        weight = weight.expand(mask.shape)[mask]
        losses = F.cross_entropy(logits, targets, reduction="none")
        return (losses * weight).sum() / mask[..., 0].numel()
