"""Performer attention: softmax attention estimated with random features, at a cost linear in the length.

Choromanski et al., "Rethinking Attention with Performers", arXiv 2009.14794; lucidrains/performer-pytorch 1.1.3
(performer_pytorch/performer_pytorch.py: `softmax_kernel`, `linear_attention`, `gaussian_orthogonal_random_matrix`).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

# Added to every feature, so that no query is without keys.
FEATURE_EPS = 1e-4
# Of a stretch of a sequence, for a whole batch: what a core's cache holds, and what keeps an accelerator busy.
MOST_FEATURES_ON_CPU, MOST_FEATURES = 2**17, 2**24
# Tokens, so that a stretch's features are more numbers than their sums.
SHORTEST_STRETCH = 256


def random_projection(num_features: int, head_dim: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Directions of random features (num_features, head_dim), on the CPU: Gaussian vectors, orthogonal in blocks.

    Rows come in blocks of `head_dim` that are orthogonal to one another; their lengths are those of independent
    Gaussian vectors. Drawn in the order of performer-pytorch.

    Args:
        generator: of the CPU; None for PyTorch's global one.
    """
    options = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
    num_blocks = math.ceil(num_features / head_dim)
    blocks = [torch.linalg.qr(torch.randn(head_dim, head_dim, **options)).Q.T for _ in range(num_blocks)]
    lengths = torch.randn(num_features, head_dim, **options).norm(dim=1)
    return lengths[:, None] * torch.cat(blocks)[:num_features]


class RandomFeatures(nn.Module):
    """Positive random features of the softmax kernel, without `FEATURE_EPS`.

    The projection is a buffer that is saved with the weights, which are trained for it.

    Args:
        head_dim: width of queries and keys.
        num_features: how many random features stand for one.
    """

    projection: torch.Tensor

    def __init__(self, head_dim: int, num_features: int):
        super().__init__()
        self.register_buffer("projection", torch.empty(num_features, head_dim))
        self.projection.copy_(random_projection(num_features, head_dim))

    def directions(self, dtype: torch.dtype) -> torch.Tensor:
        """(head_dim, num_features): by their products with these, states become the exponents of their features."""
        return (self.projection * self.projection.shape[1] ** -0.25).to(dtype).T

    def forward(
        self, states: torch.Tensor, exponents: torch.Tensor, over_time: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (batch, heads, length, num_features) of queries or keys, and the exponent that was subtracted.

        Args:
            states: (batch, heads, length, head_dim).
            exponents: their products with `directions`; overwritten.
            over_time: whether the exponent subtracted is the largest of all of a head's, as for keys, whose sizes are
                compared, rather than each state's own, as for queries.
        """
        num_features, head_dim = self.projection.shape
        largest = exponents.detach().amax(dim=(-2, -1) if over_time else -1, keepdim=True)
        offsets = states.square().sum(dim=-1, keepdim=True) * (0.5 * head_dim**-0.5) + largest
        # The factor 1 / sqrt(num_features) cancels, but keeps sums over long inputs within half precision.
        # In place, as these are by far the largest numbers at once.
        return exponents.sub_(offsets + 0.5 * math.log(num_features)).exp_(), largest


class ScaleNorm(nn.Module):
    """Every token divided by its length, times one learned gain; `PreScaleNorm` in performer-pytorch."""

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., channels) to the same shape."""
        return nn.functional.normalize(hidden_states, dim=-1, eps=self.eps) * self.gain


class Summary(NamedTuple):
    """What queries read of keys and values, or of a stretch of them.

    Attributes:
        sums: (batch, heads, num_features, channels + 1): of every feature times the values, and of the feature alone.
        rest: the same of `FEATURE_EPS`, which every feature has besides; it broadcasts to `sums`.
        largest: (batch, heads, 1, 1): the exponent that was subtracted in the features.
    """

    sums: torch.Tensor
    rest: torch.Tensor
    largest: torch.Tensor


class PerformerAttention(nn.Module):
    """Multi-head random-feature attention of tokens to a context, or to themselves.

    Features are many more numbers than tokens, so that only those of a stretch of the sequence are there at a time;
    training makes them again for the gradients. The result is the same, but for rounding, whatever the stretches.

    Args:
        hidden_size: width of tokens and context.
        num_heads, head_dim: the heads' common width may differ from `hidden_size`.
        num_features: random features per head; all heads of a layer share one projection.
        bias: whether queries, keys and values have a bias; the output projection always has one.
        dropout: rate on the result.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        head_dim: int,
        num_features: int,
        bias: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, num_heads * head_dim, bias=bias)
        self.key_value = nn.Linear(hidden_size, 2 * num_heads * head_dim, bias=bias)
        self.random_features = RandomFeatures(head_dim, num_features)
        self.projection = nn.Linear(num_heads * head_dim, hidden_size)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.eps = FEATURE_EPS * num_features**-0.5

    def forward(self, hidden_states: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """(batch, queries, hidden_size), for a context (batch, keys, hidden_size)."""
        narrow = self.is_narrow()
        summarize, read = (self.summarize_narrow, self.read_narrow) if narrow else (self.summarize, self.read)
        summary = joined([made_again(summarize, part) for part in self.stretches(context)])
        if narrow:
            summary = self.with_outputs(summary)
        parts = [made_again(read, part, summary) for part in self.stretches(hidden_states)]
        return self.dropout(torch.cat(parts, dim=1))

    def stretches(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Tokens (batch, length, hidden_size) cut along the length; whole for a compiler, which cuts by itself."""
        if torch.compiler.is_compiling():
            return (tokens,)
        most = MOST_FEATURES_ON_CPU if tokens.device.type == "cpu" else MOST_FEATURES
        per_token = len(tokens) * self.num_heads * len(self.random_features.projection)
        return tokens.split(max(most // per_token, SHORTEST_STRETCH), dim=1)

    def summarize(self, context: torch.Tensor) -> Summary:
        """What queries read of a stretch of the context (batch, length, hidden_size)."""
        key, value = self.key_value(context).unflatten(-1, (2, self.num_heads, -1)).transpose(1, 3).unbind(2)
        features, largest = self.random_features(key, key @ self.random_features.directions(key.dtype), over_time=True)
        return self.summed(features, with_one(value), largest)

    def summed(self, features: torch.Tensor, values: torch.Tensor, largest: torch.Tensor) -> Summary:
        """Summary of a stretch; the ones beside its values sum up what results are divided by."""
        # The mean of many values stays within half precision where their sum would not.
        rest = self.eps * values.shape[-2] * values.mean(dim=-2, keepdim=True)
        return Summary(features.transpose(-2, -1) @ values, rest, largest)

    def read(self, hidden_states: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        """(batch, length, hidden_size) of a stretch of tokens, for a `joined` summary of the whole context."""
        query = self.query(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        exponents = query @ self.random_features.directions(query.dtype)
        features, _ = self.random_features(query, exponents, over_time=False)
        return self.projection(self.averages(features, summary).transpose(1, 2).flatten(2))

    def averages(self, features: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        """(batch, heads, length, channels) of queries' features and a summary (..., num_features, channels + 1)."""
        sums = features @ summary + self.eps * summary.sum(dim=-2, keepdim=True)
        # The squared divisor of the gradient leaves the range of half precision.
        single = sums.float() if sums.dtype.itemsize < 4 else sums
        return (single[..., :-1] / single[..., -1:]).to(sums.dtype)

    # Tokens narrower than heads, as in Audiomer's first layers, whose sequences are the longest: there one linear map
    # follows another, with more channels between the two than at either end, and doing both at once takes less.

    def is_narrow(self) -> bool:
        """Whether maps are merged; not those of layers that do more than their weights say, as with adapters."""
        plain = all(type(layer) is nn.Linear for layer in (self.query, self.key_value, self.projection))
        return plain and self.query.in_features < self.random_features.projection.shape[1]

    def summarize_narrow(self, context: torch.Tensor) -> Summary:
        """As `summarize`, with the tokens, and a one beside them, in place of values."""
        tokens = with_one(context)[:, None]
        key_map, _ = self.maps(self.key_value, 2)
        features, largest = self.features_of(tokens, key_map, over_time=True)
        return self.summed(features, tokens, largest)

    def with_outputs(self, summary: torch.Tensor) -> torch.Tensor:
        """Of tokens (batch, heads, num_features, hidden_size + 1), what they add to the result in their place."""
        _, value_map = self.maps(self.key_value, 2)
        output_map = value_map @ self.projection.weight.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)
        return torch.cat([summary @ output_map, summary[..., -1:]], dim=-1)

    def read_narrow(self, hidden_states: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        """As `read`, for a summary of `with_outputs`."""
        (query_map,) = self.maps(self.query, 1)
        features, _ = self.features_of(with_one(hidden_states)[:, None], query_map, over_time=False)
        return self.averages(features, summary).sum(dim=1) + self.projection.bias

    def maps(self, layer: nn.Linear, count: int) -> tuple[torch.Tensor, ...]:
        """Of each of `count` things that a layer makes, (heads, hidden_size + 1, head_dim): a bias is the last row."""
        bias = torch.zeros_like(layer.weight[:, 0]) if layer.bias is None else layer.bias
        maps = torch.cat([layer.weight, bias[:, None]], dim=1).unflatten(0, (count, self.num_heads, -1))
        return maps.transpose(-2, -1).unbind(0)

    def features_of(
        self, tokens: torch.Tensor, state_map: torch.Tensor, over_time: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the states that a map makes of tokens (batch, 1, length, hidden_size + 1)."""
        exponents = tokens @ (state_map @ self.random_features.directions(state_map.dtype))
        return self.random_features(tokens @ state_map, exponents, over_time)


def with_one(states: torch.Tensor) -> torch.Tensor:
    """(..., channels) to (..., channels + 1)."""
    return nn.functional.pad(states, (0, 1), value=1.0)


def joined(parts: Sequence[Summary]) -> torch.Tensor:
    """One summary (batch, heads, num_features, head_dim + 1) of those of stretches, as if they were one."""
    sums, rests, largest = (torch.stack(values) for values in zip(*parts, strict=True))
    # Less the largest exponent of all stretches, not of each.
    weights = (largest - largest.amax(dim=0)).exp()
    return (sums * weights).sum(dim=0) + rests.sum(dim=0)


def made_again(function: Callable, *tensors: torch.Tensor):
    """The function's result; where there are gradients to come, what it computes on the way is not kept for them."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*tensors)
    return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)


@torch.no_grad()
def redraw_projections(model: nn.Module, seed: int) -> None:
    """Draw the random features of every layer anew, in place; the same seed gives the same ones on every device."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, RandomFeatures):
            num_features, size = module.projection.shape
            module.projection.copy_(random_projection(num_features, size, generator))
