"""Losses of SiT, which learns several pretext tasks at once, arXiv 2104.03602 (Sara-Ahmed/SiT).

The history of its repository contains three methods. The first (July 2021, the paper's first version) and the second
(June 2022) use `SiTLoss`: rotation prediction, contrastive learning and reconstruction. The third (December 2022) uses
`MomentumSiTLoss`: contrastive learning with a momentum teacher, and reconstruction.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .contrastive import MomentumContrastLoss, NTXentLoss
from .reconstruction import AbsoluteReconstruction
from .uncertainty import UncertaintyWeighting

# Following Kendall et al., regression has a factor of 1/2, classification of 1.
TASK_SCALES = {"rotation": 1.0, "contrastive": 1.0, "reconstruction": 0.5}


class SiTLoss(nn.Module):
    """Sum of rotation (4 classes), contrastive and reconstruction losses, weighted by learned uncertainty.

    Args:
        weighting: formula of `UncertaintyWeighting`: "exponential" in the first generation, "inverse_square" in the
            second; None for the unweighted sum.
        corrupted_only: whether only corrupted pixels are reconstructed: False in the first generation, True in the
            second.
        temperature: temperature of the contrastive loss.
        tasks: which of "rotation", "contrastive" and "reconstruction" are learned; the second generation has options
            to leave some out.
    """

    def __init__(
        self,
        weighting: Literal["exponential", "inverse_square"] | None = "exponential",
        corrupted_only: bool = False,
        temperature: float = 0.5,
        tasks: Sequence[str] = tuple(TASK_SCALES),
    ):
        super().__init__()
        self.tasks = tuple(tasks)
        self.contrastive = NTXentLoss(temperature)
        self.reconstruction = AbsoluteReconstruction(corrupted_only)
        scales = {task: TASK_SCALES[task] for task in self.tasks}
        self.weighting = None if weighting is None else UncertaintyWeighting(scales, weighting)

    def forward(
        self,
        rotation_logits: Tensor | None = None,
        rotation_labels: Tensor | None = None,
        first_embeddings: Tensor | None = None,
        second_embeddings: Tensor | None = None,
        painted: Tensor | None = None,
        clean: Tensor | None = None,
        corrupted: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of both views of a batch. In stacked arguments, the first views come first.

        Only the arguments of the learned tasks are needed.

        Args:
            rotation_logits: (2 * batch, 4).
            rotation_labels: (2 * batch,), number of quarter turns.
            first_embeddings, second_embeddings: (batch, channels) of the first and the second views.
            painted, clean: reconstructed and clean images (2 * batch, channels, height, width).
            corrupted: as `clean` or with one channel, True where a pixel was corrupted; only with `corrupted_only`.

        Returns:
            The loss, and `rotation_loss`, `contrastive_loss`, `reconstruction_loss` before weighting; with weighting,
            also the weighted losses.
        """
        losses = {}
        if "rotation" in self.tasks:
            losses["rotation"] = F.cross_entropy(rotation_logits.float(), rotation_labels)
        if "contrastive" in self.tasks:
            losses["contrastive"] = self.contrastive(first_embeddings, second_embeddings)[0]
        if "reconstruction" in self.tasks:
            losses["reconstruction"] = self.reconstruction(painted, clean, corrupted)[0]
        logged = {f"{task}_loss": loss.detach() for task, loss in losses.items()}
        if self.weighting is None:
            total: Any = sum(losses.values())
            return total, logged
        loss, weighted = self.weighting(losses)
        return loss, logged | weighted


class MomentumSiTLoss(nn.Module):
    """Sum of a contrastive loss, between corrupted views of the student and clean views of the teacher, and a
    reconstruction loss of the corrupted pixels.

    Args:
        temperature: temperature of the contrastive loss.
        reconstruction_weight: factor of the reconstruction loss; the repository's README advises 5 for little data.
    """

    def __init__(self, temperature: float = 0.2, reconstruction_weight: float = 1.0):
        super().__init__()
        self.contrastive = MomentumContrastLoss(temperature)
        self.reconstruction = AbsoluteReconstruction(corrupted_only=True)
        self.reconstruction_weight = reconstruction_weight

    def forward(
        self, student: Tensor, teacher: Tensor, painted: Tensor, clean: Tensor, corrupted: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of both views of a batch.

        Args:
            student, teacher: (2, batch, channels) embeddings of both views.
            painted, clean: reconstructed and clean images (2 * batch, channels, height, width), first views first.
            corrupted: as `clean` or with one channel, True where a pixel was corrupted.
        """
        contrastive, _ = self.contrastive(student, teacher)
        reconstruction, _ = self.reconstruction(painted, clean, corrupted)
        logged = {"contrastive_loss": contrastive.detach(), "reconstruction_loss": reconstruction.detach()}
        return contrastive + self.reconstruction_weight * reconstruction, logged
