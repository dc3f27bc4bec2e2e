"""Learned weights of several losses: homoscedastic uncertainty, Kendall et al., arXiv 1705.07115."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn


class UncertaintyWeighting(nn.Module):
    """Weighted sum of the losses of several tasks, with one learned scalar w per task, initially 1.

    Args:
        scales: {task: factor a}, used by `"exponential"`.
        formula: `"exponential"` for exp(-a w) loss + w / 2 (Sara-Ahmed/SiT of 2021, losses.py), `"inverse_square"` for
            loss / (2 w^2) + log(1 + w^2) (Sara-Ahmed/SiT of June 2022, main.py).
    """

    def __init__(self, scales: Mapping[str, float], formula: Literal["exponential", "inverse_square"] = "exponential"):
        super().__init__()
        if formula not in ("exponential", "inverse_square"):
            raise ValueError(f"formula must be 'exponential' or 'inverse_square', got {formula!r}")
        self.scales = dict(scales)
        self.formula = formula
        self.weights = nn.ParameterDict({task: nn.Parameter(torch.ones(1)) for task in scales})

    def forward(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted sum of {task: scalar loss}; also returns each summand as `weighted_<task>`."""
        if losses.keys() != self.weights.keys():
            raise ValueError(f"losses of {', '.join(self.weights)} expected, got {', '.join(losses)}")
        weighted = {task: self.weigh(task, loss) for task, loss in losses.items()}
        total: Any = sum(weighted.values())
        return total, {f"weighted_{task}": value.detach() for task, value in weighted.items()}

    def weigh(self, task: str, loss: Tensor) -> Tensor:
        """Return the weighted loss of a task."""
        weight = self.weights[task].squeeze(0)
        if self.formula == "exponential":
            return torch.exp(-self.scales[task] * weight) * loss + weight / 2
        return loss / (2 * weight.square()) + torch.log1p(weight.square())
