"""LocalViT's convolutional feed-forward, and the choice between it and a plain MLP.

Li et al., "LocalViT: Bringing Locality to Vision Transformers", arXiv 2104.05707, section 3; ofsoundof/LocalViT
(models/localvit.py).
"""

import math

import torch
from torch import nn
from torchvision.ops import SqueezeExcitation, StochasticDepth

from .convolution import ConvNorm, PointwiseLinear, to_map, to_tokens
from .mlp import MLP
from .transformer import TransformerLayer, leading


class LinearSqueezeExcitation(SqueezeExcitation):
    """Squeeze-and-excitation whose two 1x1 convolutions are initialised as linear layers, as in the original."""

    def __init__(self, channels: int, squeeze_size: int):
        super().__init__(channels, squeeze_size, scale_activation=nn.Hardsigmoid)
        self.fc1, self.fc2 = PointwiseLinear(channels, squeeze_size), PointwiseLinear(squeeze_size, channels)


class EfficientChannelAttention(nn.Module):
    """Efficient channel attention (ECA, arXiv 1910.03151, section 3.3): a convolution over the channels' means."""

    def __init__(self, channels: int, gate: nn.Module):
        super().__init__()
        width = int(abs((math.log2(channels) + 1) / 2))
        kernel_size = width if width % 2 else width + 1
        self.convolution = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.gate = gate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        weights = self.gate(self.convolution(hidden_states.mean(dim=(2, 3))[:, None]))
        return hidden_states * weights.transpose(1, 2)[..., None]


def make_channel_attention(kind: str, channels: int, squeeze_size: int | None) -> nn.Module:
    """Make the channel attention named by `LocalityConfig.channel_attention`."""
    if kind == "squeeze_excitation":
        return LinearSqueezeExcitation(channels, squeeze_size)
    if kind == "none":
        return nn.Identity()
    return EfficientChannelAttention(channels, nn.Sigmoid() if kind == "efficient" else nn.Hardsigmoid())


class LocalityFeedForward(nn.Module):
    """Inverted residual on the grid of tokens: 1x1 expansion, 3x3 depth-wise, 1x1 projection, with batch norms.

    There is no norm before it. Prefix tokens are returned unchanged.

    Args:
        config: a `LocalityConfig`.
        squeeze_size: channels between the two layers of squeeze-and-excitation; None for no channel attention,
            whatever `config.channel_attention` is.
    """

    def __init__(self, config, hidden_size: int, intermediate_size: int, squeeze_size: int | None):
        super().__init__()
        activation = config.locality_act
        self.expansion = ConvNorm(hidden_size, intermediate_size, 1, activation=activation)
        self.depthwise = (
            ConvNorm(intermediate_size, intermediate_size, 3, groups=intermediate_size, activation=activation)
            if config.depthwise_convolution
            else nn.Identity()
        )
        kind = "none" if squeeze_size is None else config.channel_attention
        self.channel_attention = make_channel_attention(kind, intermediate_size, squeeze_size)
        self.projection = ConvNorm(intermediate_size, hidden_size, 1)

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Map (batch, prefix + rows * columns, hidden_size) to the same shape."""
        count = hidden_states.shape[1] - grid[0] * grid[1]
        tokens = hidden_states[:, count:]
        local = self.channel_attention(self.depthwise(self.expansion(to_map(tokens, grid))))
        tokens = tokens + to_tokens(self.projection(local))
        return torch.cat([hidden_states[:, :count], tokens], dim=1) if count else tokens


class MLPFeedForward(nn.Module):
    """x + last(mlp(norm(x))).

    Args:
        last: module applied to the branch before the residual is added, such as stochastic depth.
    """

    def __init__(self, config, hidden_size: int, intermediate_size: int, last: nn.Module):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(hidden_size, intermediate_size, config.hidden_act, config.hidden_dropout_prob)
        self.last = last

    def forward(self, hidden_states: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to the same shape; `grid` is not read."""
        return hidden_states + self.last(self.mlp(self.norm(hidden_states)))


def make_feed_forward(
    config, hidden_size: int, intermediate_size: int, squeeze_size: int, drop_path_rate: float
) -> nn.Module:
    """Make the second half of a layer, including its residual connection, as `config.feed_forward` names it.

    It is called with tokens and their grid. As in the original, only the MLP has stochastic depth.
    """
    if config.feed_forward == "locality":
        return LocalityFeedForward(config, hidden_size, intermediate_size, squeeze_size)
    return MLPFeedForward(config, hidden_size, intermediate_size, StochasticDepth(drop_path_rate, mode="row"))


class LocalityTransformerLayer(TransformerLayer):
    """Transformer layer with `LocalityFeedForward` in place of norm, MLP and residual connection.

    Reads `squeeze_size` from `config`, besides the fields that `TransformerLayer` and `LocalityFeedForward` read.
    """

    def make_feed_forward(self, config) -> None:
        sizes = config.hidden_size, config.intermediate_size, config.squeeze_size
        self.feed_forward = LocalityFeedForward(config, *sizes)

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, int], num_queries: int | None = None, **kwargs
    ) -> torch.Tensor:
        """Map (batch, prefix + rows * columns, hidden_size) to the same shape.

        Args:
            grid: (rows, columns) of the tokens.
            num_queries: return only the first `num_queries` tokens, all of them prefix tokens; None for all.
        """
        # Prefix tokens skip the convolutions. In training all tokens are computed for the batch norms' statistics.
        attending = None if self.training else num_queries
        attended = self.attention_branch(hidden_states, num_queries=attending, **kwargs)
        hidden_states = leading(hidden_states, attending) + attended
        if attending is None:
            hidden_states = self.feed_forward(hidden_states, grid)
        return leading(hidden_states, num_queries)
