"""Running centre of a teacher's outputs, and reductions over processes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def is_distributed() -> bool:
    """Return whether there are several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes; the tensor itself for a single process."""
    if not is_distributed():
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def gather_over_processes(value: Tensor) -> Tensor:
    """Concatenate (batch, ...) of all processes in the order of their ranks: (processes * batch, ...); no gradient."""
    if not is_distributed():
        return value
    gathered = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, value.detach().contiguous())
    return torch.cat(gathered)


class Center(nn.Module):
    """Running mean of a teacher's outputs, subtracted from them so that no output dimension dominates.

    Caron et al., DINO, arXiv 2104.14294, section 3.1. The mean is over all processes.

    Args:
        size: number of output dimensions.
        momentum: weight of the old centre at each update.

    Attributes:
        parts: number of calls of `update` that count as one update. A trainer that accumulates gradients sets it to
            the number of accumulation steps, so that the centre moves once per optimizer step.
    """

    value: Tensor

    def __init__(self, size: int, momentum: float = 0.9):
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"the centre's momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum
        self.parts = 1
        self._waiting: list[Tensor] = []
        self.register_buffer("value", torch.zeros(size))

    @torch.no_grad()
    def sharpen(self, outputs: Tensor, temperature: float) -> Tensor:
        """Convert outputs (..., size) to probabilities (..., size): softmax((outputs - centre) / temperature)."""
        return torch.softmax((outputs.float() - self.value) / temperature, dim=-1)

    @torch.no_grad()
    def update(self, mean: Tensor) -> None:
        """Move the centre towards `mean` (size,) of this process's outputs; all processes must call this."""
        self._waiting.append(mean_over_processes(mean.to(self.value.dtype)))
        if len(self._waiting) >= self.parts:
            total: Any = sum(self._waiting)
            self.value.lerp_(total / len(self._waiting), 1 - self.momentum)
            self._waiting.clear()
