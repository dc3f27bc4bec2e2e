"""From frames of a spectrogram to fewer, wider ones."""

import torch
from torch import nn

from .subsampling_windows_branchformer import CONVOLUTIONS, convolved_length


def subsample_mask(name: str, mask: torch.Tensor, whole_windows: bool) -> torch.Tensor:
    """The mask over the frames that leave, (batch, fewer frames).

    Args:
        mask: boolean (batch, frames), False for padding.
        whole_windows: whether a frame is real only if all that its windows saw is; ESPnet asks for their first alone.
    """
    for kernel_size, stride in CONVOLUTIONS[name]:
        mask = mask[:, kernel_size - 1 :: stride] if whole_windows else mask[:, : 1 - kernel_size : stride]
    return mask


class ConvSubsampling(nn.Module):
    """Convolutions over time and frequency with ReLU, without borders; then each frame projected.

    Args:
        name: a key of `CONVOLUTIONS`.
        num_features: of every frame that comes.
    """

    def __init__(self, name: str, num_features: int, hidden_size: int):
        super().__init__()
        layers: list[nn.Module] = []
        for index, window in enumerate(CONVOLUTIONS[name]):
            layers += [nn.Conv2d(hidden_size if index else 1, hidden_size, *window), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.projection = nn.Linear(hidden_size * convolved_length(name, num_features), hidden_size)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """(batch, frames, num_features) to (batch, fewer frames, hidden_size)."""
        if torch.is_grad_enabled():
            maps = input_features[:, None]
        else:  # the same, laid out with channels last, which makes convolutions faster, but not their gradients
            maps = input_features[..., None].permute(0, 3, 1, 2)
        maps = self.convolutions(maps)
        return self.projection(maps.transpose(1, 2).flatten(2))


class LinearInput(nn.Sequential):
    """Each frame projected and normalised; as many leave as come."""

    def __init__(self, num_features: int, hidden_size: int, dropout: float):
        super().__init__(nn.Linear(num_features, hidden_size), nn.LayerNorm(hidden_size), nn.Dropout(dropout))
