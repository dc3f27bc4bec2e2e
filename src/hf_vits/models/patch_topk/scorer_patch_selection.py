"""Scores of the patches of an image, how they are normalised, and selection with noise.

google-research/google-research, ptopk_patch_selection/lib/layers/sample_patches.py (Scorer, create_normalization_fn).
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from ...layers.topk import fixed_noise, perturbed_topk


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (arXiv 1709.01507) without biases."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.down = nn.Linear(channels, channels // reduction, bias=False)
        self.up = nn.Linear(channels // reduction, channels, bias=False)

    def weights(self, means: torch.Tensor) -> torch.Tensor:
        """Return the factors (batch, channels) for mean values (batch, channels)."""
        return self.up(self.down(means).relu()).sigmoid()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return hidden_states * self.weights(hidden_states.mean(dim=(2, 3)))[:, :, None, None]


class Scorer(nn.Sequential):
    """Four convolutions without padding, then a maximum over each 8 x 8 pixels."""

    def __init__(self, num_channels: int, squeeze_excitation: bool):
        layers: dict[str, nn.Module] = {}
        for index, (before, after) in enumerate(((num_channels, 8), (8, 16), (16, 32), (32, 1)), start=1):
            layers[f"conv{index}"] = nn.Conv2d(before, after, 3)
            if index < 4:
                layers[f"relu{index}"] = nn.ReLU()
            if squeeze_excitation and index in (2, 3):
                layers[f"excitation{index}"] = SqueezeExcitation(after, 16)
        super().__init__(OrderedDict(layers | {"pool": nn.MaxPool2d(8)}))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to scores (batch, (height - 8) // 8, (width - 8) // 8)."""
        return super().forward(input)[:, 0]


class ScoreNormalization(nn.Module):
    """Normalisation of the scores of an image, in single precision.

    Args:
        steps: (name, argument) of each step, as `normalization_steps` returns them.
        num_cells: number of scores, which a layer norm needs.
    """

    def __init__(self, steps: Sequence[tuple[str, float | None]], num_cells: int, layer_norm_eps: float = 1e-6):
        super().__init__()
        self.steps = steps
        count = sum(name == "layernorm" for name, _ in steps)
        self.norms = nn.ModuleList(nn.LayerNorm(num_cells, eps=layer_norm_eps) for _ in range(count))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Map (batch, cells) to the same shape."""
        scores, norms = scores.float(), iter(self.norms)
        for name, value in self.steps:
            scores = next(norms)(scores) if name == "layernorm" else normalize(scores, name, value or 0.0)
        return scores


class PerturbedSelection(nn.Module):
    """Perturbed top-k, with a factor of the noise's standard deviation that may fall from 1 to 0 over a training.

    Args:
        config: has num_samples, sigma, sigma_schedule and jacobian.
    """

    sigma_multiplier: torch.Tensor

    def __init__(self, config):
        super().__init__()
        self.num_samples, self.initial_sigma, self.jacobian = config.num_samples, config.sigma, config.jacobian
        self.falls = config.sigma_schedule == "linear"
        self.register_buffer("sigma_multiplier", torch.ones(()))

    def set_progress(self, fraction: float) -> None:
        """Set the factor after this fraction of a training's steps."""
        if self.falls:
            self.sigma_multiplier.fill_(1 - fraction)

    def forward(self, scores: torch.Tensor, k: int, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Return the indicators (batch, k, cells) of scores (batch, cells).

        Args:
            noise: (batch or 1, num_samples, cells), standard normal; None to draw it in training, and for the same
                noise at each call in evaluation.
        """
        if noise is None and not self.training:
            noise = fixed_noise(self.num_samples, scores.shape[1], scores.device)
        sigma = self.initial_sigma * self.sigma_multiplier.float()
        return perturbed_topk(scores, k, sigma, self.num_samples, noise, self.jacobian)


def normalize(scores: torch.Tensor, name: str, value: float) -> torch.Tensor:
    """Apply one normalisation to scores (batch, cells)."""
    if name == "softmax":
        return scores.softmax(dim=-1)
    if name == "sigmoid":
        return scores.sigmoid()
    if name == "smoothing":
        return scores * (1 - value) + value / scores.shape[-1]
    if name in ("zeroone", "zerooneeps"):
        above = scores - scores.amin(dim=-1, keepdim=True)
        return above / (above.amax(dim=-1, keepdim=True) + value)
    return scores
