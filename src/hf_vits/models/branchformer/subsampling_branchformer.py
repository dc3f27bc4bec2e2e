"""Subsampling of spectrogram frames by convolutions."""

import torch
from torch import nn

from .subsampling_windows_branchformer import CONVOLUTIONS, convolved_length


def subsample_mask(name: str, mask: torch.Tensor, whole_windows: bool) -> torch.Tensor:
    """Return the mask over the subsampled frames, (batch, subsampled frames).

    Args:
        name: a key of `CONVOLUTIONS`.
        mask: boolean (batch, frames), False for padding.
        whole_windows: whether a frame counts as padding if any frame of its windows is; otherwise, as in ESPnet, if
            the first frame of its windows is.
    """
    for kernel_size, stride in CONVOLUTIONS[name]:
        mask = mask[:, kernel_size - 1 :: stride] if whole_windows else mask[:, : 1 - kernel_size : stride]
    return mask


class ConvSubsampling(nn.Module):
    """Convolutions over time and frequency with ReLU, without padding; then a linear layer on each frame.

    Args:
        name: a key of `CONVOLUTIONS`.
        num_features: features of an input frame.
    """

    def __init__(self, name: str, num_features: int, hidden_size: int):
        super().__init__()
        layers: list[nn.Module] = []
        for index, window in enumerate(CONVOLUTIONS[name]):
            layers += [nn.Conv2d(hidden_size if index else 1, hidden_size, *window), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.projection = nn.Linear(hidden_size * convolved_length(name, num_features), hidden_size)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """Map (batch, frames, num_features) to (batch, subsampled frames, hidden_size)."""
        if torch.is_grad_enabled():
            maps = input_features[:, None]
        else:  # channels last makes convolutions faster, but not their gradients
            maps = input_features[..., None].permute(0, 3, 1, 2)
        maps = self.convolutions(maps)
        return self.projection(maps.transpose(1, 2).flatten(2))


class LinearInput(nn.Sequential):
    """Linear layer, layer norm and dropout on each frame, without subsampling."""

    def __init__(self, num_features: int, hidden_size: int, dropout: float):
        super().__init__(nn.Linear(num_features, hidden_size), nn.LayerNorm(hidden_size), nn.Dropout(dropout))
