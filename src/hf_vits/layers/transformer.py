"""Pre-norm transformer layers."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import SelfAttention
from .mlp import MLP


def drop_path_rates(rate: float, num_layers: int, schedule: str = "linear") -> list[float]:
    """Return each layer's stochastic depth rate: "linear" from 0 to `rate`, or "constant"."""
    if schedule == "constant":
        return [rate] * num_layers
    return torch.linspace(0, rate, num_layers, device="cpu").tolist()


def drop_path_rates_of_stages(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Return the stochastic depth rates of each stage's layers, rising linearly from 0 to `rate` over all layers."""
    rates = iter(drop_path_rates(rate, sum(depths)))
    return [list(islice(rates, depth)) for depth in depths]


def leading(tokens: torch.Tensor, count: int | None) -> torch.Tensor:
    """Return the first `count` tokens of (..., tokens, channels); None for all."""
    return tokens if count is None else tokens[..., :count, :]


class UnscaledStochasticDepth(nn.Module):
    """Stochastic depth as in google-research/scenic: kept branches are not scaled up by 1 / (1 - rate).

    Args:
        rate: probability, for each sample along the first axis, that the branch is set to zero in training.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) >= self.rate
        return branch * kept.to(branch.dtype)


class LayerScale(nn.Module):
    """Layer scale: a learned factor gamma per channel on a residual branch (arXiv 2103.17239)."""

    def __init__(self, hidden_size: int, initial_value: float):
        super().__init__()
        self.initial_value = initial_value
        self.gamma = nn.Parameter(torch.full((hidden_size,), float(initial_value)))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * self.gamma


class PreNormLayer(GradientCheckpointingLayer):
    """Base of pre-norm layers, x + attention(norm(x)), then x + mlp(norm(x)), with stochastic depth.

    A subclass makes the attention, and its `forward` passes the attention's result to `add`. Reads from `config`:
    hidden_act, layer_norm_eps, hidden_dropout_prob.
    """

    def __init__(self, config, hidden_size: int, mlp_ratio: float, drop_path_rate: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(hidden_size, int(hidden_size * mlp_ratio), config.hidden_act, config.hidden_dropout_prob)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def add(self, hidden_states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Return the layer's output.

        Args:
            hidden_states: the layer's input (batch, tokens, hidden_size).
            attended: the attention's result, of the same shape.
        """
        hidden_states = hidden_states + self.drop_path(attended)
        return hidden_states + self.drop_path(self.mlp(self.mlp_norm(hidden_states)))


class TransformerLayer(GradientCheckpointingLayer):
    """Pre-norm transformer layer, each branch with optional layer scale and stochastic depth.

    Computes x + attention(norm(x)), then x + mlp(norm(x)). Reads from `config`: hidden_size, intermediate_size,
    num_attention_heads, hidden_act, layer_norm_eps, qkv_bias, hidden_dropout_prob, attention_probs_dropout_prob,
    layer_scale_init_value.

    Attributes:
        attention_class: `SelfAttention`, or a class with the same constructor and `forward`.
    """

    attention_class = SelfAttention

    def __init__(self, config, drop_path_rate: float = 0.0):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = self.attention_class(
            config,
            config.hidden_size,
            config.num_attention_heads,
            qkv_bias=config.qkv_bias,
            attention_dropout=config.attention_probs_dropout_prob,
            projection_dropout=config.hidden_dropout_prob,
        )
        scale = config.layer_scale_init_value
        self.attention_scale = None if scale is None else LayerScale(config.hidden_size, scale)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")
        self.make_feed_forward(config)

    def make_feed_forward(self, config) -> None:
        """Make the modules of the layer's second half."""
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.hidden_act, config.hidden_dropout_prob)
        scale = config.layer_scale_init_value
        self.mlp_scale = None if scale is None else LayerScale(config.hidden_size, scale)

    def attention_branch(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        attended, _ = self.attention(self.attention_norm(hidden_states), **kwargs)
        return self.finish_branch(attended, self.attention_scale)

    def mlp_branch(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.finish_branch(self.mlp(self.mlp_norm(hidden_states)), self.mlp_scale)

    def finish_branch(self, branch: torch.Tensor, scale: LayerScale | None) -> torch.Tensor:
        """Apply layer scale, if there is one, and in training stochastic depth."""
        if scale is not None:
            branch = scale(branch)
        return self.drop_path(branch) if self.training else branch

    def forward(self, hidden_states: torch.Tensor, num_queries: int | None = None, **kwargs) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to the same shape, or to the first `num_queries` tokens."""
        attended = self.attention_branch(hidden_states, num_queries=num_queries, **kwargs)
        hidden_states = leading(hidden_states, num_queries) + attended
        return hidden_states + self.mlp_branch(hidden_states)


class ParallelTransformerLayer(GradientCheckpointingLayer):
    """Parallel transformer layers: the sum of all attentions is added to the tokens, then the sum of all MLPs.

    Touvron et al., "Three things everyone should know about Vision Transformers", arXiv 2203.09795, section 3.
    """

    def __init__(self, config, drop_path_rate: float = 0.0):
        super().__init__()
        self.branches = nn.ModuleList(
            TransformerLayer(config, drop_path_rate) for _ in range(config.num_parallel_branches)
        )

    def forward(self, hidden_states: torch.Tensor, num_queries: int | None = None, **kwargs) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to the same shape, or to the first `num_queries` tokens."""
        branches: Any = self.branches
        attended = [b.attention_branch(hidden_states, num_queries=num_queries, **kwargs) for b in branches]
        hidden_states = sum(attended, leading(hidden_states, num_queries))
        return sum((b.mlp_branch(hidden_states) for b in branches), hidden_states)
