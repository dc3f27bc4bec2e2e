"""Loss over numbers to predict, (batch, targets)."""

import torch
from torch import Tensor, nn


class StandardizedSquaredError(nn.Module):
    """Mean squared error, averaged over batch and targets, of a model that predicts standardised targets.

    The labels are in the units of the data; the loss subtracts `mean` and divides by `std`. With 0 and 1 it is
    transformers' loss for problem_type "regression".

    Attributes:
        mean, std: (targets,), or scalars.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor | float = 0.0, std: Tensor | float = 1.0):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32))

    def errors(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the squared errors (batch,) of inputs, averaged over targets, float32."""
        if logits.shape != labels.shape:
            raise ValueError(
                f"labels must have the shape of the logits {tuple(logits.shape)}, got {tuple(labels.shape)}"
            )
        mean, std = self.mean.to(logits.device), self.std.to(logits.device)
        return (logits.float() - (labels.float() - mean) / std).square().mean(dim=1)

    def in_units(self, logits: Tensor) -> Tensor:
        """Return predictions (batch, targets) in the units of the data, float32."""
        return logits.float() * self.std.to(logits.device) + self.mean.to(logits.device)

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.errors(logits, labels).mean(), {}
