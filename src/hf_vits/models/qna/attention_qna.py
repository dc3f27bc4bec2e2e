"""Local attention with learned queries (QnA), computed by two depth-wise convolutions without cutting windows."""

import torch
from torch import nn
from transformers.utils.generic import maybe_autocast

from ...configuration import pair

# How the results of several queries are weighted before they are summed; the original's names in parentheses.
ATTENTION_SCALES = (
    "learned",  # a weight per window position, query and head, around 0 ("normal")
    "learned_from_ones",  # likewise, starting at 1 ("ones")
    "learned_per_head",  # a weight per query and head, around 0 ("normal_elementwise")
    "signed",  # 1 for the first half of all queries' heads, -1 for the second ("posneg")
    "mean",  # one over the number of queries ("avg")
    "none",  # 1
)
# Scores are kept in [-MAX_SCORE, MAX_SCORE], so that sums of weighted exponentials fit in single precision.
MAX_SCORE = 70.0


def bounded(scores: torch.Tensor) -> torch.Tensor:
    """Shift scores (batch, height, width, channels) by a constant per image and channel, so that exp cannot overflow.

    The softmax over any window is unchanged where the scores of a channel span at most 2 * `MAX_SCORE`. Lower scores
    are raised to 2 * `MAX_SCORE` below the highest.
    """
    lowest, highest = scores.detach().amin(dim=(1, 2), keepdim=True), scores.detach().amax(dim=(1, 2), keepdim=True)
    shift = torch.maximum((lowest + highest) / 2, highest - MAX_SCORE)
    return (scores - shift).clamp(min=-MAX_SCORE)


def reciprocal(values: torch.Tensor) -> torch.Tensor:
    """Return 1 / values with a gradient that does not overflow for small values, unlike torch.reciprocal's 1 / x^2."""
    scale = values.detach().reciprocal()
    return scale * (values * scale).reciprocal()


def sum_windows(
    hidden_states: torch.Tensor, kernel: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """Return weighted sums over windows, by a depth-wise convolution with channels last.

    Args:
        hidden_states: (batch, height, width, channels).
        kernel: weights (channels, 1, kernel height, kernel width).
    """
    hidden_states = hidden_states.permute(0, 3, 1, 2)
    sums = nn.functional.conv2d(hidden_states, kernel, stride=stride, padding=padding, groups=len(kernel))
    return sums.permute(0, 2, 3, 1)


class KeyScores(nn.Module):
    """Scores of learned queries, from the weight and bias of the keys' projection.

    Keys are never computed: the products of queries and weight are one linear map from the input to the scores. The
    module is therefore no `nn.Linear`, which adapters and quantization would expect to be called with the input alone.
    """

    def __init__(self, in_channels: int, num_heads: int, head_dim: int, bias: bool):
        super().__init__()
        self.num_heads = num_heads
        self.weight = nn.Parameter(torch.zeros(num_heads * head_dim, in_channels))
        self.bias = nn.Parameter(torch.zeros(num_heads * head_dim)) if bias else None

    def forward(self, hidden_states: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Return the scores (..., queries * heads).

        Args:
            hidden_states: (..., in_channels).
            queries: (queries, heads, head_dim).
        """
        weight = torch.einsum("qhd,hdi->qhi", queries, self.weight.unflatten(0, (self.num_heads, -1))).flatten(0, 1)
        if self.bias is None:
            return nn.functional.linear(hidden_states, weight)
        bias = torch.einsum("qhd,hd->qh", queries, self.bias.unflatten(0, (self.num_heads, -1))).flatten()
        return nn.functional.linear(hidden_states, weight, bias)


class LearnedQueryAttention(nn.Module):
    """Query-and-attend (QnA): learned queries, shared by all positions, attend to the window around each position.

    Arar et al., "Learned Queries for Efficient Local Attention", arXiv 2112.11435; moabarar/qna, layers/qna.py
    (`FusedKQnA`). Because the queries are shared, a pixel's score is the same in every window that contains it. The
    softmax's numerator and denominator are therefore depth-wise convolutions, of exp(score) * value and of exp(score),
    with the exponential of the relative position bias as kernel. No window is cut out: memory grows with the feature
    map and the number of queries, not with the kernel size. Pixels outside the feature map are not attended to.

    Args:
        in_channels, hidden_size, out_channels: channels of the input, of queries, keys and values, and of the result
            (None for `hidden_size`).
        num_heads: number of heads.
        kernel_size: size of the window, odd or even, one number or (height, width).
        stride: stride of the windows.
        padding: how far windows reach over the border; None for half the kernel size.
        num_queries: number of queries at every position; their results are summed.
        attention_scale: one of `ATTENTION_SCALES`.
        normalize_queries: whether queries are L2-normalised in every head.
        bias: whether keys, values and the output projection have a bias.
        scale_position_bias: whether the position bias is divided by sqrt(head_dim).

    Raises ValueError where `num_heads` does not divide `hidden_size`, a window can lie outside the feature map, or
    `attention_scale` is unknown or "signed" with an odd number of queries times heads.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_size: int,
        num_heads: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | None = None,
        num_queries: int = 2,
        attention_scale: str = "learned",
        normalize_queries: bool = True,
        out_channels: int | None = None,
        bias: bool = False,
        scale_position_bias: bool = False,
    ):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, hidden_size // num_heads
        self.kernel_size, self.stride = pair(kernel_size), pair(stride)
        self.padding = tuple((size - 1) // 2 for size in self.kernel_size) if padding is None else pair(padding)
        self.num_queries = num_queries
        self.attention_scale_type = attention_scale
        self.normalize_queries = normalize_queries
        self.position_bias_scale = self.head_dim**-0.5 if scale_position_bias else 1.0
        self.check(hidden_size)
        self.queries = nn.Parameter(torch.zeros(num_queries, hidden_size))
        self.key = KeyScores(in_channels, num_heads, self.head_dim, bias)
        self.value = nn.Linear(in_channels, hidden_size, bias=bias)
        self.projection = nn.Linear(hidden_size, hidden_size if out_channels is None else out_channels, bias=bias)
        self.position_bias = nn.Parameter(torch.zeros(num_queries, num_heads, *self.kernel_size))
        self.attention_scale = None
        if attention_scale.startswith("learned"):
            window = (1, 1) if attention_scale == "learned_per_head" else self.kernel_size
            self.attention_scale = nn.Parameter(torch.ones(num_queries, num_heads, *window))

    def check(self, hidden_size: int) -> None:
        if hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_heads, got {hidden_size} and {self.num_heads} heads"
            )
        if any(padding >= size for padding, size in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"padding must be smaller than the kernel, or windows hold nothing of the map, got "
                f"kernel_size={self.kernel_size} and padding={self.padding}"
            )
        if self.attention_scale_type not in ATTENTION_SCALES:
            raise ValueError(
                f"attention_scale must be one of {', '.join(ATTENTION_SCALES)}, got {self.attention_scale_type!r}"
            )
        if self.attention_scale_type == "signed" and self.num_queries * self.num_heads % 2:
            raise ValueError(
                "attention_scale='signed' needs an even number of queries times heads, got "
                f"{self.num_queries} queries and {self.num_heads} heads"
            )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, height, width, in_channels) to (batch, rows, columns, out_channels), channels last."""
        scores = self.key(hidden_states, self.scaled_queries())
        value = self.value(hidden_states)
        # Sums of exponentials need the range of single precision, but autocast runs convolutions in half precision.
        dtype = torch.promote_types(value.dtype, torch.float32)
        with maybe_autocast(hidden_states.device.type, enabled=False):
            attended = self.attend(scores.to(dtype), value.to(dtype))
        return self.projection(attended.to(value.dtype))

    def scaled_queries(self) -> torch.Tensor:
        """Return the queries (queries, heads, head_dim), normalised if so configured, over sqrt(head_dim)."""
        queries = self.queries.unflatten(1, (self.num_heads, self.head_dim))
        if self.normalize_queries:
            queries = queries / (queries.norm(dim=-1, keepdim=True) + 1e-6)
        return queries * self.head_dim**-0.5

    def attend(self, scores: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Compute the softmax-weighted sum over every window, then sum over the queries.

        Args:
            scores: (batch, height, width, queries * heads).
            value: (batch, height, width, hidden_size).

        Returns:
            (batch, rows, columns, hidden_size).
        """
        heads = (self.num_queries, self.num_heads)
        kernel = self.position_kernel().to(value.dtype)
        value_kernel = self.weigh(kernel).repeat_interleave(self.head_dim, dim=0)
        weights = bounded(scores).exp()
        value = value.unflatten(-1, (1, self.num_heads, self.head_dim))
        weighted = weights.unflatten(-1, heads).unsqueeze(-1) * value
        numerator = sum_windows(weighted.flatten(-3), value_kernel, self.stride, self.padding)
        denominator = sum_windows(weights, kernel, self.stride, self.padding)
        # Multiplying by the inverse denominators, of which there are few, is faster than dividing, most in training.
        factor = reciprocal(denominator).unflatten(-1, heads).unsqueeze(-1)
        return (numerator.unflatten(-1, (*heads, self.head_dim)) * factor).sum(dim=-3).flatten(-2)

    def position_kernel(self) -> torch.Tensor:
        """Return exp(position bias), scaled to a maximum of 1: (queries * heads, 1, height, width)."""
        bias = self.position_bias * self.position_bias_scale
        return (bias - bias.detach().amax(dim=(-2, -1), keepdim=True)).exp().flatten(0, 1).unsqueeze(1)

    def weigh(self, kernel: torch.Tensor) -> torch.Tensor:
        """Return the kernel of the numerator: `kernel` times the attention scale, which the denominator lacks."""
        if self.attention_scale is not None:
            return kernel * self.attention_scale.to(kernel.dtype).flatten(0, 1).unsqueeze(1)
        if self.attention_scale_type == "signed":
            positive, negative = kernel.chunk(2)
            return torch.cat([positive, -negative])
        return kernel / self.num_queries if self.attention_scale_type == "mean" else kernel
