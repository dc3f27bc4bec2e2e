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

# Added to every feature, so that no query has a zero normaliser.
FEATURE_EPS = 1e-4
# Features of a chunk of the sequence, over the batch: as many as a core's cache holds, or as keep a GPU busy.
MAX_CHUNK_FEATURES_ON_CPU, MAX_CHUNK_FEATURES = 2**17, 2**24
# Tokens of a chunk; with fewer, the summary of a chunk would be larger than its features.
MIN_CHUNK_LENGTH = 256


def random_projection(num_features: int, head_dim: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draw the projection of random features (num_features, head_dim), on the CPU: Gaussian, orthogonal in blocks.

    Within each block of `head_dim` rows, the rows are orthogonal to one another; their lengths are distributed as the
    lengths of Gaussian vectors. The numbers are drawn in the order of performer-pytorch.

    Args:
        generator: random generator on the CPU; None for PyTorch's global one.
    """
    options = {"generator": generator, "dtype": torch.float32, "device": "cpu"}
    num_blocks = math.ceil(num_features / head_dim)
    blocks = [torch.linalg.qr(torch.randn(head_dim, head_dim, **options)).Q.T for _ in range(num_blocks)]
    lengths = torch.randn(num_features, head_dim, **options).norm(dim=1)
    return lengths[:, None] * torch.cat(blocks)[:num_features]


class RandomFeatures(nn.Module):
    """Positive random features that approximate the softmax kernel, without `FEATURE_EPS`.

    The projection is a saved buffer, since the weights are trained for it.

    Args:
        head_dim: channels of a head's queries and keys.
        num_features: number of random features.
    """

    projection: torch.Tensor

    def __init__(self, head_dim: int, num_features: int):
        super().__init__()
        self.register_buffer("projection", torch.empty(num_features, head_dim))
        self.projection.copy_(random_projection(num_features, head_dim))

    def directions(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the scaled projection (head_dim, num_features); states times it are the features' exponents."""
        return (self.projection * self.projection.shape[1] ** -0.25).to(dtype).T

    def forward(
        self, states: torch.Tensor, exponents: torch.Tensor, over_time: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features (batch, heads, length, num_features) of queries or keys, and the exponent subtracted.

        Subtracting the largest exponent avoids overflow.

        Args:
            states: queries or keys (batch, heads, length, head_dim).
            exponents: `states @ directions`; overwritten.
            over_time: whether the largest exponent is taken over all states of a head, as keys need, whose features
                must stay comparable; otherwise over the features of each state, as for queries.
        """
        num_features, head_dim = self.projection.shape
        largest = exponents.detach().amax(dim=(-2, -1) if over_time else -1, keepdim=True)
        offsets = states.square().sum(dim=-1, keepdim=True) * (0.5 * head_dim**-0.5) + largest
        # The factor 1 / sqrt(num_features) cancels, but keeps sums over long inputs within half precision.
        # In place, as the features are by far the largest tensor.
        return exponents.sub_(offsets + 0.5 * math.log(num_features)).exp_(), largest


class ScaleNorm(nn.Module):
    """L2-normalise every token and multiply by one learned scale; `PreScaleNorm` in performer-pytorch."""

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., channels) to the same shape."""
        return nn.functional.normalize(hidden_states, dim=-1, eps=self.eps) * self.scale


class Summary(NamedTuple):
    """Sums over the keys and values of a chunk of the context; all that queries need of them.

    Attributes:
        sums: (batch, heads, num_features, channels + 1), the sum over keys of each feature times the values and, in
            the last channel, of the feature itself: numerator and denominator of the attention.
        rest: the share of `FEATURE_EPS` in these sums; broadcasts to `sums`.
        largest: (batch, heads, 1, 1), the exponent that was subtracted in the features.
    """

    sums: torch.Tensor
    rest: torch.Tensor
    largest: torch.Tensor


class PerformerAttention(nn.Module):
    """Multi-head random-feature attention of tokens to a context, or to themselves.

    The features take much more memory than the tokens. They are computed for one chunk of the sequence at a time, and
    in training computed again in the backward pass. Apart from rounding, the result does not depend on the chunks.

    Args:
        hidden_size: channels of tokens and context.
        num_heads, head_dim: `num_heads * head_dim` may differ from `hidden_size`.
        num_features: random features per head; all heads of a layer share one projection.
        bias: whether queries, keys and values have a bias; the output projection always has one.
        dropout: dropout rate on the result.
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
        """Compute attention of tokens (batch, queries, hidden_size) to a context (batch, keys, hidden_size).

        Returns:
            (batch, queries, hidden_size).
        """
        narrow = self.is_narrow()
        summarize, read = (self.summarize_narrow, self.read_narrow) if narrow else (self.summarize, self.read)
        summary = merge_summaries([recomputed(summarize, part) for part in self.chunks(context)])
        if narrow:
            summary = self.project_values(summary)
        parts = [recomputed(read, part, summary) for part in self.chunks(hidden_states)]
        return self.dropout(torch.cat(parts, dim=1))

    def chunks(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Cut tokens (batch, length, hidden_size) along the length; one chunk under torch.compile."""
        if torch.compiler.is_compiling():
            return (tokens,)
        most = MAX_CHUNK_FEATURES_ON_CPU if tokens.device.type == "cpu" else MAX_CHUNK_FEATURES
        per_token = tokens.shape[0] * self.num_heads * len(self.random_features.projection)
        return tokens.split(max(most // per_token, MIN_CHUNK_LENGTH), dim=1)

    def summarize(self, context: torch.Tensor) -> Summary:
        """Return the summary of a chunk of the context (batch, length, hidden_size)."""
        key, value = self.key_value(context).unflatten(-1, (2, self.num_heads, -1)).transpose(1, 3).unbind(2)
        features, largest = self.random_features(key, key @ self.random_features.directions(key.dtype), over_time=True)
        return self.make_summary(features, append_one(value), largest)

    def make_summary(self, features: torch.Tensor, values: torch.Tensor, largest: torch.Tensor) -> Summary:
        """Sum features times values, whose last channel is 1, so that its sum is the denominator.

        Args:
            features: (batch, heads, length, num_features).
            values: (batch, heads, length, channels + 1).
            largest: exponent that was subtracted in the features.
        """
        # The mean of many values stays within half precision where their sum would not.
        rest = self.eps * values.shape[-2] * values.mean(dim=-2, keepdim=True)
        return Summary(features.transpose(-2, -1) @ values, rest, largest)

    def read(self, hidden_states: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        """Compute the attention of a chunk of tokens (batch, length, hidden_size), given the context's summary."""
        query = self.query(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        exponents = query @ self.random_features.directions(query.dtype)
        features, _ = self.random_features(query, exponents, over_time=False)
        return self.projection(self.averages(features, summary).transpose(1, 2).flatten(2))

    def averages(self, features: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        """Divide numerators by denominators: attended values (batch, heads, length, channels).

        Args:
            features: of queries, (batch, heads, length, num_features).
            summary: of the whole context, (batch, heads, num_features, channels + 1).
        """
        sums = features @ summary + self.eps * summary.sum(dim=-2, keepdim=True)
        # The gradient divides by the squared denominator, which half precision cannot hold.
        single = sums.float() if sums.dtype.itemsize < 4 else sums
        return (single[..., :-1] / single[..., -1:]).to(sums.dtype)

    # Where tokens have fewer channels than a head (Audiomer's first layers, with the longest sequences), consecutive
    # linear maps are merged into one: (hidden_size, num_features) instead of (hidden_size, head_dim, num_features).

    def is_narrow(self) -> bool:
        """Return whether linear maps are merged: where tokens are narrower than heads and all layers are nn.Linear."""
        plain = all(type(layer) is nn.Linear for layer in (self.query, self.key_value, self.projection))
        return plain and self.query.in_features < self.random_features.projection.shape[1]

    def summarize_narrow(self, context: torch.Tensor) -> Summary:
        """Return the summary of a chunk with the tokens themselves, and a 1 appended, in place of values."""
        tokens = append_one(context)[:, None]
        key_map, _ = self.maps(self.key_value, context, 2)
        features, largest = self.features_of(tokens, key_map, over_time=True)
        return self.make_summary(features, tokens, largest)

    def project_values(self, summary: torch.Tensor) -> torch.Tensor:
        """Apply value and output projection to a summary of tokens (batch, heads, num_features, hidden_size + 1)."""
        _, value_map = self.maps(self.key_value, summary, 2)
        weight, bias = weight_and_bias(self.projection, summary)
        output_map = value_map @ weight.unflatten(0, (self.num_heads, -1))
        # The results of all heads are summed: each adds its part of the bias, on the channel that averages to 1.
        output_map = torch.cat([output_map[:, :-1], output_map[:, -1:] + bias / self.num_heads], dim=1)
        return torch.cat([summary @ output_map, summary[..., -1:]], dim=-1)

    def read_narrow(self, hidden_states: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
        """Compute the attention of a chunk as `read`, given a summary from `project_values`."""
        (query_map,) = self.maps(self.query, hidden_states, 1)
        features, _ = self.features_of(append_one(hidden_states)[:, None], query_map, over_time=False)
        return self.averages(features, summary).sum(dim=1)

    def maps(self, layer: nn.Linear, like: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
        """Return the layer's weight as `count` maps (heads, hidden_size + 1, head_dim), the bias as last row."""
        maps = torch.cat(weight_and_bias(layer, like)).unflatten(1, (count, self.num_heads, -1))
        return maps.permute(1, 2, 0, 3).unbind(0)

    def features_of(
        self, tokens: torch.Tensor, state_map: torch.Tensor, over_time: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of the states `tokens @ state_map`, for tokens (batch, 1, length, hidden_size + 1)."""
        exponents = tokens @ (state_map @ self.random_features.directions(state_map.dtype))
        return self.random_features(tokens @ state_map, exponents, over_time)


def weight_and_bias(layer: nn.Linear, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the transposed weight (in_features, out_features) and the bias (1, out_features), zero without a bias.

    They are the layer's outputs for unit vectors and for zero. Calling the layer, instead of reading its parameters,
    lets hooks load weights that are offloaded, and works with quantized weights.

    Args:
        like: has the dtype and device of the layer's inputs.
    """
    size = layer.in_features
    outputs = layer(torch.eye(size + 1, size, dtype=like.dtype, device=like.device))
    weight, bias = outputs.split([size, 1])
    return (weight if layer.bias is None else weight - bias), bias


def append_one(states: torch.Tensor) -> torch.Tensor:
    """Append a 1 to the channels: (..., channels) to (..., channels + 1)."""
    return nn.functional.pad(states, (0, 1), value=1.0)


def merge_summaries(parts: Sequence[Summary]) -> torch.Tensor:
    """Merge the summaries of all chunks into one, (batch, heads, num_features, head_dim + 1)."""
    sums, rests, largest = (torch.stack(values) for values in zip(*parts, strict=True))
    # Rescale from the largest exponent of each chunk to the largest of all.
    weights = (largest - largest.amax(dim=0)).exp()
    return (sums * weights).sum(dim=0) + rests.sum(dim=0)


def recomputed(function: Callable, *tensors: torch.Tensor):
    """Call the function under gradient checkpointing, so that its intermediate results are not stored."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*tensors)
    return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)


@torch.no_grad()
def redraw_projections(model: nn.Module, seed: int) -> None:
    """Draw new random features for every layer, in place; a seed gives the same features on every device."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, RandomFeatures):
            num_features, size = module.projection.shape
            module.projection.copy_(random_projection(num_features, size, generator))
