"""SiT: several pretext tasks at once, arXiv 2104.03602 (Sara-Ahmed/SiT).

Its repository holds three methods under one name. The first (July 2021, the paper's first version) and the second
(June 2022) are `SiTLoss`: rotation, contrast and reconstruction. The third (December 2022) is `MomentumSiTLoss`:
contrast with a momentum teacher, and reconstruction.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .contrastive import MomentumContrastLoss, NTXentLoss
from .reconstruction import AbsoluteReconstruction
from .uncertainty import UncertaintyWeighting

# A factor of a half for what is regressed rather than classified, as Kendall et al. have it.
TASK_SCALES = {"rotation": 1.0, "contrastive": 1.0, "reconstruction": 0.5}


class SiTLoss(nn.Module):
    """Rotation (4 classes), contrast of the two corrupted views and reconstruction, weighted by learnt uncertainty.

    Args:
        weighting: formula of `UncertaintyWeighting`: "exponential" in the first generation, "inverse_square" in the
            second; None sums the tasks as they are.
        corrupted_only: whether reconstruction looks at corrupted pixels alone: False in the first generation, True in
            the second.
        temperature: of the contrastive task.
        tasks: those of "rotation", "contrastive", "reconstruction" that are learnt; the second generation has options
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
        """Loss of both views of a batch, view 1 of every image before view 2 where they are stacked.

        Only what the tasks read has to be given.

        Args:
            rotation_logits: (2 * batch, 4); rotation_labels (2 * batch,) quarter turns.
            first_embeddings, second_embeddings: (batch, channels) of view 1 and of view 2.
            painted, clean: (2 * batch, channels, height, width).
            corrupted: as `clean` or with one channel, True where a pixel was corrupted; only with `corrupted_only`.

        Returns:
            The loss; logged are `rotation_loss`, `contrastive_loss`, `reconstruction_loss` before weighting and, with
            it, the weighted ones.
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
    """Contrast of the student's corrupted views with the teacher's clean ones, and reconstruction of the corrupted.

    Args:
        temperature: of the contrastive task.
        reconstruction_weight: factor of the reconstruction; the repository's README advises 5 for little data.
    """

    def __init__(self, temperature: float = 0.2, reconstruction_weight: float = 1.0):
        super().__init__()
        self.contrastive = MomentumContrastLoss(temperature)
        self.reconstruction = AbsoluteReconstruction(corrupted_only=True)
        self.reconstruction_weight = reconstruction_weight

    def forward(
        self, student: Tensor, teacher: Tensor, painted: Tensor, clean: Tensor, corrupted: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of both views of a batch.

        Args:
            student, teacher: (2, batch, channels) embeddings of both views.
            painted, clean: (2 * batch, channels, height, width), view 1 of every image before view 2.
            corrupted: as `clean` or with one channel, True where a pixel was corrupted.
        """
        contrastive, _ = self.contrastive(student, teacher)
        reconstruction, _ = self.reconstruction(painted, clean, corrupted)
        logged = {"contrastive_loss": contrastive.detach(), "reconstruction_loss": reconstruction.detach()}
        return contrastive + self.reconstruction_weight * reconstruction, logged
