"""Attention of heads compared with spatial priors: SPAN, arXiv 2209.03745.

The paper's equations are not public here. The losses are a reading of its abstract, see the card of SPAN.
"""

from typing import Literal

import torch
from torch import Tensor, nn


class PriorAttentionLoss(nn.Module):
    """Distance of the attention of heads to their priors, averaged over the pairs of image and head that count.

    Args:
        kind: "cross_entropy", the Kullback-Leibler divergence up to a constant, or "mse", the squared error, summed
            over patches.
    """

    EPSILON = 1e-8

    def __init__(self, kind: Literal["cross_entropy", "mse"] = "cross_entropy"):
        super().__init__()
        if kind not in ("cross_entropy", "mse"):
            raise ValueError(f"kind must be 'cross_entropy' or 'mse', got {kind!r}")
        self.kind = kind

    def forward(
        self, attention: Tensor, priors: Tensor, used: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss; 0 where no pair counts.

        Args:
            attention, priors: (..., heads, patches), not negative; both are normalised here to sum to 1 over patches.
            used: (..., heads), True where a pair of image and head counts; None for all.
        """
        if attention.shape != priors.shape:
            raise ValueError(
                "attention and priors must be (..., heads, patches), both the same, got "
                f"{tuple(attention.shape)} and {tuple(priors.shape)}"
            )
        attention, priors = (normalized(maps.float()) for maps in (attention, priors))
        if self.kind == "mse":
            errors = (attention - priors).square().sum(dim=-1)
        else:
            errors = -(priors * (attention + self.EPSILON).log()).sum(dim=-1)
        if used is None:
            return errors.mean(), {}
        return (errors * used).sum() / used.sum().clamp(min=1), {}


def normalized(maps: Tensor) -> Tensor:
    """Return maps (..., patches) divided by their sums; zeros stay zeros."""
    return maps / maps.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
