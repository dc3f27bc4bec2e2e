"""Contrastive losses over two views of each image; the other images are the negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .centering import gather_over_processes, is_distributed
from .dino import check_temperatures


class NTXentLoss(nn.Module):
    """NT-Xent loss of SimCLR, also called InfoNCE (arXiv 2002.05709, section 2.1).

    Used by SiT's first two generations (Sara-Ahmed/SiT, losses.py, `ContrastiveLoss`, later `SimCLR`). As there,
    negatives are taken from the batch of this process alone.

    Args:
        temperature: divides the cosine similarities.
    """

    def __init__(self, temperature: float = 0.5):
        super().__init__()
        check_temperatures(temperature=temperature)
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of the embeddings (batch, channels) of both views, images in the same order."""
        if first.shape != second.shape:
            raise ValueError(
                f"both views need one embedding per image, got {tuple(first.shape)} and {tuple(second.shape)}"
            )
        logits = self.logits(first, second)
        positives = torch.arange(len(logits), device=logits.device).roll(len(first))
        return F.cross_entropy(logits, positives), {}

    def logits(self, first: Tensor, second: Tensor) -> Tensor:
        """Return similarities / temperature (2 * batch, 2 * batch), first views first; -inf on the diagonal."""
        embeddings = F.normalize(torch.cat([first, second]).float(), dim=1)
        return (embeddings @ embeddings.T / self.temperature).fill_diagonal_(float("-inf"))


class MomentumContrastLoss(nn.Module):
    """Contrastive loss between each view of the student and the other view of the teacher (MoCo v3).

    arXiv 2104.02057, algorithm 1; also the third generation of SiT (Sara-Ahmed/SiT, main.py, `SimCLR`). The images of
    all processes are candidates.

    Args:
        temperature: divides the cosine similarities; the loss is scaled by twice the temperature.
    """

    def __init__(self, temperature: float = 0.2):
        super().__init__()
        check_temperatures(temperature=temperature)
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of the embeddings (2, batch, channels) of both views; the teacher receives no gradient."""
        if student.shape != teacher.shape or len(student) != 2:
            raise ValueError(
                "student and teacher need embeddings (2, batch, channels) of the same two views, got "
                f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        return self.one_way(student[0], teacher[1]) + self.one_way(student[1], teacher[0]), {}

    def one_way(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one view of the student with one view of the teacher, both (batch, channels)."""
        candidates = gather_over_processes(F.normalize(teacher.detach().float(), dim=1))
        logits = F.normalize(student.float(), dim=1) @ candidates.T / self.temperature
        rank = torch.distributed.get_rank() if is_distributed() else 0
        positives = torch.arange(len(student), device=student.device) + rank * len(student)
        return F.cross_entropy(logits, positives) * 2 * self.temperature
