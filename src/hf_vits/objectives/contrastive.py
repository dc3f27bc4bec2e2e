"""Contrastive losses over two views of each image, the other images being the negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .centering import gather_over_processes, is_distributed
from .dino import check_temperatures


class NTXentLoss(nn.Module):
    """Normalised, temperature-scaled cross-entropy over a batch's own views (SimCLR, arXiv 2002.05709, section 2.1).

    Also called InfoNCE: SiT's first two generations (Sara-Ahmed/SiT, losses.py, `ContrastiveLoss`, later `SimCLR`).
    Negatives come from this process's batch alone, as there.

    Args:
        temperature: divides the cosine similarities.
    """

    def __init__(self, temperature: float = 0.5):
        super().__init__()
        check_temperatures(temperature=temperature)
        self.temperature = temperature

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """first, second (batch, channels): embeddings of both views, image by image in the same order."""
        if first.shape != second.shape:
            raise ValueError(
                f"both views need one embedding per image, got {tuple(first.shape)} and {tuple(second.shape)}"
            )
        logits = self.logits(first, second)
        positives = torch.arange(len(logits), device=logits.device).roll(len(first))
        return F.cross_entropy(logits, positives), {}

    def logits(self, first: Tensor, second: Tensor) -> Tensor:
        """(2 * batch, 2 * batch) similarities over temperature, first views first; -inf of each with itself."""
        embeddings = F.normalize(torch.cat([first, second]).float(), dim=1)
        return (embeddings @ embeddings.T / self.temperature).fill_diagonal_(float("-inf"))


class MomentumContrastLoss(nn.Module):
    """Each view of the student's against the other view of the teacher's, all images of all processes as candidates.

    MoCo v3 (arXiv 2104.02057, algorithm 1) and the third generation of SiT (Sara-Ahmed/SiT, main.py, `SimCLR`).

    Args:
        temperature: divides the cosine similarities; the loss is scaled by twice the temperature.
    """

    def __init__(self, temperature: float = 0.2):
        super().__init__()
        check_temperatures(temperature=temperature)
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """student, teacher (2, batch, channels): embeddings of both views; no gradient flows to the teacher's."""
        if student.shape != teacher.shape or len(student) != 2:
            raise ValueError(
                "student and teacher need embeddings (2, batch, channels) of the same two views, got "
                f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        return self.one_way(student[0], teacher[1]) + self.one_way(student[1], teacher[0]), {}

    def one_way(self, student: Tensor, teacher: Tensor) -> Tensor:
        candidates = gather_over_processes(F.normalize(teacher.detach().float(), dim=1))
        logits = F.normalize(student.float(), dim=1) @ candidates.T / self.temperature
        rank = torch.distributed.get_rank() if is_distributed() else 0
        positives = torch.arange(len(student), device=student.device) + rank * len(student)
        return F.cross_entropy(logits, positives) * 2 * self.temperature
