"""Performer attention: softmax attention estimated with random features, at a cost linear in the length.

Choromanski et al., "Rethinking Attention with Performers", arXiv 2009.14794; lucidrains/performer-pytorch 1.1.3
(performer_pytorch/performer_pytorch.py: `softmax_kernel`, `linear_attention`, `gaussian_orthogonal_random_matrix`).
"""

import math

import torch
from torch import nn

# Added to every feature, so that no query is without keys.
FEATURE_EPS = 1e-4


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


class RandomFeatureAttention(nn.Module):
    """Attention of queries to keys through positive random features of the softmax kernel.

    The projection is a buffer that is saved with the weights, which are trained for it.

    Args:
        head_dim: width of queries and keys.
        num_features: how many random features stand for one.
    """

    def __init__(self, head_dim: int, num_features: int):
        super().__init__()
        self.register_buffer("projection", torch.empty(num_features, head_dim))
        self.projection.copy_(random_projection(num_features, head_dim))

    def exponentials(self, states: torch.Tensor, over_time: bool) -> torch.Tensor:
        """Random features (batch, heads, length, num_features) of queries or keys, without `FEATURE_EPS`.

        Args:
            states: (batch, heads, length, head_dim).
            over_time: whether the largest exponent, which is subtracted, is that of all of a head's features, as for
                keys, whose sizes are compared, rather than that of each state's own, as for queries.
        """
        num_features, head_dim = self.projection.shape
        exponents = states @ (self.projection * head_dim**-0.25).to(states.dtype).T
        largest = exponents.detach().amax(dim=(-2, -1) if over_time else -1, keepdim=True)
        offsets = states.square().sum(dim=-1, keepdim=True) * (0.5 * head_dim**-0.5) + largest
        # The factor 1 / sqrt(num_features) cancels, but keeps sums over long inputs within half precision.
        # In place, as these are by far the largest numbers at once.
        return exponents.sub_(offsets + 0.5 * math.log(num_features)).exp_()

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attended values (batch, heads, queries, head_dim).

        Args:
            query: (batch, heads, queries, head_dim).
            key, value: (batch, heads, keys, head_dim).
        """
        query, key = self.exponentials(query, over_time=False), self.exponentials(key, over_time=True)
        eps = FEATURE_EPS * len(self.projection) ** -0.5
        # A column of ones beside the values sums up what the result is divided by. The eps of every feature is added
        # to the sums over the length rather than to the features, which are many more numbers.
        value = nn.functional.pad(value, (0, 1), value=1.0)
        summary = key.transpose(-2, -1) @ value + eps * value.shape[-2] * value.mean(dim=-2, keepdim=True)
        attended = query @ summary + eps * summary.sum(dim=-2, keepdim=True)
        # The squared divisor of the gradient leaves the range of half precision.
        single = attended.float() if attended.dtype.itemsize < 4 else attended
        return (single[..., :-1] / single[..., -1:]).to(attended.dtype)


class ScaleNorm(nn.Module):
    """Every token divided by its length, times one learned gain; `PreScaleNorm` in performer-pytorch."""

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., channels) to the same shape."""
        return nn.functional.normalize(hidden_states, dim=-1, eps=self.eps) * self.gain


class PerformerAttention(nn.Module):
    """Multi-head random-feature attention of tokens to a context, or to themselves.

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
        self.random_features = RandomFeatureAttention(head_dim, num_features)
        self.projection = nn.Linear(num_heads * head_dim, hidden_size)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, hidden_states: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """(batch, queries, hidden_size), for a context (batch, keys, hidden_size)."""
        query = self.query(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key, value = self.key_value(context).unflatten(-1, (2, self.num_heads, -1)).unbind(2)
        attended = self.random_features(query, key.transpose(1, 2), value.transpose(1, 2))
        return self.dropout(self.projection(attended.transpose(1, 2).flatten(2)))


@torch.no_grad()
def redraw_projections(model: nn.Module, seed: int) -> None:
    """Draw the random features of every layer anew, in place; the same seed gives the same ones on every device."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, RandomFeatureAttention):
            module.projection.copy_(random_projection(*module.projection.shape, generator))
