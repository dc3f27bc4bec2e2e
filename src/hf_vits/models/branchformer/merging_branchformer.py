"""Modules that merge the outputs of two parallel branches (Branchformer, arXiv 2207.02971, section 3.4)."""

import torch
from torch import nn

from ...layers.pooling import masked_softmax


class BranchMerge(nn.Module):
    """Base of the modules that merge two branches.

    `forward` takes the output of each branch, (batch, length, hidden_size) or None for a missing branch, and a boolean
    mask (batch, length), False for padding, or None. It returns the merged states (batch, length, hidden_size) and the
    weights of the branches (batch, 2), which are recorded as `branch_weights`; None for a merge without such weights.
    """


class SingleBranch(BranchMerge):
    """Merge for a layer with one branch: returns that branch, with or without a linear projection."""

    def __init__(self, hidden_size: int, use_projection: bool):
        super().__init__()
        self.projection = nn.Linear(hidden_size, hidden_size) if use_projection else nn.Identity()

    def forward(self, first: torch.Tensor | None, second: torch.Tensor | None, frame_mask=None):
        return self.projection(second if first is None else first), None


class ConcatMerge(BranchMerge):
    """Merge by concatenation of the channels, then a linear projection."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.projection = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, first: torch.Tensor, second: torch.Tensor, frame_mask=None):
        return self.projection(torch.cat([first, second], dim=-1)), None


class FixedAverageMerge(BranchMerge):
    """Merge by a weighted average with a fixed weight of the second branch, then a linear projection."""

    def __init__(self, hidden_size: int, second_weight: float):
        super().__init__()
        self.second_weight = second_weight
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, first: torch.Tensor, second: torch.Tensor, frame_mask=None):
        return self.projection(first.lerp(second, self.second_weight)), None


class BranchScore(nn.Module):
    """One scalar per sequence: the mean of a scalar per frame, weighted by a softmax over a score per frame."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.scaling = hidden_size**-0.5
        self.linear = nn.Linear(hidden_size, 2)  # score and scalar of a frame

    def forward(self, hidden_states: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
        """Map (batch, length, hidden_size) to (batch,)."""
        score, scalar = self.linear(hidden_states).unbind(-1)
        return (masked_softmax(score * self.scaling, frame_mask) * scalar).sum(dim=1)


class LearnedAverageMerge(BranchMerge):
    """Merge by a weighted average whose weights are computed from both branches, then a linear projection.

    Args:
        drop_rate: probability, in training and once per batch, that the first branch gets weight 0 and the second 1.
    """

    def __init__(self, hidden_size: int, drop_rate: float):
        super().__init__()
        self.drop_rate = drop_rate
        self.first_score = BranchScore(hidden_size)
        self.second_score = BranchScore(hidden_size)
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, first: torch.Tensor, second: torch.Tensor, frame_mask: torch.Tensor | None = None):
        scores = torch.stack([self.first_score(first, frame_mask), self.second_score(second, frame_mask)], dim=1)
        weights = scores.softmax(dim=1)
        if self.training and self.drop_rate > 0:
            dropped = torch.rand((), device=first.device) < self.drop_rate
            only_second = torch.arange(2, device=first.device).to(weights.dtype)
            weights = torch.where(dropped, only_second, weights)
        average = first.lerp(second, weights[:, 1, None, None].to(first.dtype))
        return self.projection(average), weights
