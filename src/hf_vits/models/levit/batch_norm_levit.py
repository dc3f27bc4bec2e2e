"""Batch norms before or after linear layers, which `hf_vits.fuse` folds into them."""

from collections import OrderedDict

import torch
from torch import nn


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm over all tokens of a batch.

    Args:
        initial_weight: initial value of the weight; 0 for the last norm of a residual branch that starts as identity.
    """

    def __init__(self, channels: int, initial_weight: float = 1.0):
        super().__init__(channels)
        self.initial_weight = initial_weight

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, channels) to the same shape."""
        return super().forward(hidden_states.flatten(0, 1)).view_as(hidden_states)


class LinearNorm(nn.Sequential):
    """Linear layer without bias, then batch norm: (batch, tokens, in_features) to (batch, tokens, out_features)."""

    def __init__(self, in_features: int, out_features: int, initial_weight: float = 1.0):
        linear = nn.Linear(in_features, out_features, bias=False)
        super().__init__(OrderedDict(linear=linear, norm=TokenBatchNorm(out_features, initial_weight)))


class NormLinear(nn.Sequential):
    """Batch norm, then a linear layer: (batch, in_features) to (batch, out_features)."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(OrderedDict(norm=nn.BatchNorm1d(in_features), linear=nn.Linear(in_features, out_features)))
