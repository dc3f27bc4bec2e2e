"""How the results of two branches that read the same sequence become one (Branchformer, arXiv 2207.02971, 3.4)."""

import torch
from torch import nn

from ...layers.pooling import masked_softmax


class BranchMerge(nn.Module):
    """Base of the ways to merge.

    Every one takes the results of both branches, (batch, length, hidden_size), None for a branch that is not there,
    and a boolean mask (batch, length), False for padding, or None. It returns the merged states and, where it weighs
    the branches by what they hold, the two weights (batch, 2), which are recorded; else None.
    """


class SingleBranch(BranchMerge):
    """The only branch there is, projected or as it is."""

    def __init__(self, hidden_size: int, use_projection: bool):
        super().__init__()
        self.projection = nn.Linear(hidden_size, hidden_size) if use_projection else nn.Identity()

    def forward(self, first: torch.Tensor | None, second: torch.Tensor | None, frame_mask=None):
        return self.projection(second if first is None else first), None


class ConcatMerge(BranchMerge):
    """Both side by side, projected."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.projection = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, first: torch.Tensor, second: torch.Tensor, frame_mask=None):
        return self.projection(torch.cat([first, second], dim=-1)), None


class FixedAverageMerge(BranchMerge):
    """Average by a given weight of the second branch, projected."""

    def __init__(self, hidden_size: int, second_weight: float):
        super().__init__()
        self.second_weight = second_weight
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, first: torch.Tensor, second: torch.Tensor, frame_mask=None):
        return self.projection(first.lerp(second, self.second_weight)), None


class BranchScore(nn.Module):
    """One number for the whole sequence: that of its frames, averaged by the softmax of what each of them scores."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.scaling = hidden_size**-0.5
        self.linear = nn.Linear(hidden_size, 2)  # a frame's score and its number

    def forward(self, hidden_states: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
        """(batch, length, hidden_size) to (batch,)."""
        score, number = self.linear(hidden_states).unbind(-1)
        return (masked_softmax(score * self.scaling, frame_mask) * number).sum(dim=1)


class LearnedAverageMerge(BranchMerge):
    """Average by weights that follow from what the branches hold, projected.

    Args:
        drop_rate: how often in training the first branch of a batch gets no weight and the second all of it.
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
