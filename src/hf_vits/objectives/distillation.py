"""Distillation loss of DeiT, arXiv 2012.12877 (facebookresearch/deit, losses.py)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class DistillationLoss(nn.Module):
    """(1 - alpha) * base loss of the class logits + alpha * distillation loss of the distillation logits.

    Args:
        base: loss over (logits, labels) that returns (loss, logged).
        kind: `"hard"` is the cross-entropy with the teacher's predicted class. `"soft"` is the KL divergence to the
            teacher's distribution, times temperature squared, divided by batch * classes as in the original's code
            (the paper divides by batch). `"none"` is `base` alone.
        alpha: weight of the distillation loss, 0 to 1.
        temperature: divides the logits of student and teacher for `"soft"`.
    """

    def __init__(
        self,
        base: nn.Module,
        kind: Literal["none", "soft", "hard"] = "hard",
        alpha: float = 0.5,
        temperature: float = 1.0,
    ):
        super().__init__()
        if kind not in ("none", "soft", "hard"):
            raise ValueError(f"kind must be 'none', 'soft' or 'hard', got {kind!r}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.base = base
        self.kind = kind
        self.alpha = alpha
        self.temperature = temperature

    def forward(
        self,
        logits: Tensor,
        distillation_logits: Tensor | None,
        labels: Tensor,
        teacher_logits: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            logits, distillation_logits, teacher_logits: (batch, classes). A model without a distillation head passes
                its logits twice.
            labels: as `base` takes them.

        Returns:
            The loss, and unless `kind` is "none" its parts `base_loss` and `distillation_loss`.
        """
        base, logged = self.base(logits, labels)
        if self.kind == "none":
            return base, logged
        if distillation_logits is None or teacher_logits is None:
            raise ValueError(f"{self.kind} distillation needs both distillation_logits and teacher_logits")
        if distillation_logits.shape != teacher_logits.shape:
            raise ValueError(
                f"the student gives {tuple(distillation_logits.shape)} distillation logits, "
                f"the teacher {tuple(teacher_logits.shape)}; both must name the same classes"
            )
        distillation = self._distill(distillation_logits, teacher_logits.detach())
        logged = logged | {"base_loss": base.detach(), "distillation_loss": distillation.detach()}
        return (1 - self.alpha) * base + self.alpha * distillation, logged

    def _distill(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.kind == "hard":
            return F.cross_entropy(student, teacher.argmax(dim=1))
        divergence = F.kl_div(
            F.log_softmax(student / self.temperature, dim=1),
            F.log_softmax(teacher / self.temperature, dim=1),
            reduction="sum",
            log_target=True,
        )
        return divergence * self.temperature**2 / student.numel()
