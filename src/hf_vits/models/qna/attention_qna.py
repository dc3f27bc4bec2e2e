"""Local attention whose queries are learned, so that it needs no windows: two depth-wise convolutions compute it."""

import torch
from torch import nn
from transformers.utils.generic import maybe_autocast

from ...layers.patch import pair

# How the attention of several queries is weighted before it is added up, and the original's name of that:
ATTENTION_SCALES = (
    "learned",  # a weight per window position, query and head, around 0 ("normal")
    "learned_from_ones",  # likewise, starting at 1 ("ones")
    "learned_per_head",  # a weight per query and head, around 0 ("normal_elementwise")
    "signed",  # 1 for the first half of all queries' heads, -1 for the second ("posneg")
    "mean",  # one over the number of queries ("avg")
    "none",  # 1
)
# Exponentials of scores up to this, and down to its negative, leave single precision room for weights and sums.
MAX_SCORE = 70.0


def bounded(scores: torch.Tensor) -> torch.Tensor:
    """Scores (batch, height, width, channels) less a constant per image and channel, safe to exponentiate.

    A softmax over any part of the map stays as it was, wherever the scores of a channel span at most twice
    `MAX_SCORE`; those further below the highest are lifted to that distance.
    """
    lowest, highest = scores.detach().amin(dim=(1, 2), keepdim=True), scores.detach().amax(dim=(1, 2), keepdim=True)
    shift = torch.maximum((lowest + highest) / 2, highest - MAX_SCORE)
    return (scores - shift).clamp(min=-MAX_SCORE)


def reciprocal(values: torch.Tensor) -> torch.Tensor:
    """1 / values, for values so small that the square, which the gradient of torch.reciprocal holds, overflows."""
    scale = values.detach().reciprocal()
    return scale * (values * scale).reciprocal()


def sum_windows(
    hidden_states: torch.Tensor, kernel: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """Weighted sums over windows: (batch, height, width, channels) and (channels, 1, kernel height, kernel width)."""
    hidden_states = hidden_states.permute(0, 3, 1, 2)
    sums = nn.functional.conv2d(hidden_states, kernel, stride=stride, padding=padding, groups=len(kernel))
    return sums.permute(0, 2, 3, 1)


class LearnedQueryAttention(nn.Module):
    """Query-and-attend (QnA): a few learned queries, the same at every place, attend to the window around it.

    Arar et al., "Learned Queries for Efficient Local Attention", arXiv 2112.11435; moabarar/qna, layers/qna.py
    (`FusedKQnA`). A pixel's score for a query is then the same in every window that holds the pixel. Of the softmax,
    numerator and denominator are so depth-wise convolutions, of exp(score) * value and of exp(score), whose kernel is
    the exponential of the relative position bias. No window is ever cut out: memory grows with the map and the number
    of queries, not with the kernel. Pixels outside the map take no part.

    Args:
        in_channels, hidden_size, out_channels: width of the input, of queries, keys and values together, and of the
            result (None for `hidden_size`).
        num_heads: how many heads share `hidden_size`.
        kernel_size: of the window, odd or even, one number or (height, width).
        stride: of the windows.
        padding: how far windows reach over the border; None for half the kernel.
        num_queries: how many queries attend at every place; what they find is added up.
        attention_scale: one of `ATTENTION_SCALES`.
        normalize_queries: whether the queries have length 1 in every head.
        bias: whether keys, values and the result have one.
        scale_position_bias: whether the position bias is divided by the root of a head's width.

    Raises ValueError where `num_heads` does not divide `hidden_size`, windows can miss the map altogether, or
    `attention_scale` is unknown or cannot halve an odd number of queries and heads.
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
        # Its weight is read, but keys are never computed.
        self.key = nn.Linear(in_channels, hidden_size, bias=bias)
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
        """(batch, height, width, in_channels) to (batch, rows, columns, out_channels), channels last."""
        scores = nn.functional.linear(hidden_states, *self.query_key_projection())
        value = self.value(hidden_states)
        # Sums of exponentials need the range of single precision, and convolutions would take half under autocast.
        dtype = torch.promote_types(value.dtype, torch.float32)
        with maybe_autocast(hidden_states.device.type, enabled=False):
            attended = self.attend(scores.to(dtype), value.to(dtype))
        return self.projection(attended.to(value.dtype))

    def query_key_projection(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias of the linear map from the input to the scores of all queries' heads."""
        queries = self.queries.unflatten(1, (self.num_heads, self.head_dim))
        if self.normalize_queries:
            queries = queries / (queries.norm(dim=-1, keepdim=True) + 1e-6)
        queries = queries * self.head_dim**-0.5
        key = self.key.weight.unflatten(0, (self.num_heads, self.head_dim))
        weight = torch.einsum("qhd,hdi->qhi", queries, key).flatten(0, 1)
        if self.key.bias is None:
            return weight, None
        return weight, torch.einsum("qhd,hd->qh", queries, self.key.bias.view(self.num_heads, -1)).flatten()

    def attend(self, scores: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Softmax over every window, then the sum over queries.

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
        # Only denominators, which are fewer, are inverted: dividing by them takes longer, above all in training.
        factor = reciprocal(denominator).unflatten(-1, heads).unsqueeze(-1)
        return (numerator.unflatten(-1, (*heads, self.head_dim)) * factor).sum(dim=-3).flatten(-2)

    def position_kernel(self) -> torch.Tensor:
        """(queries * heads, 1, height, width): exponentials of the position bias, the largest of a window 1."""
        bias = self.position_bias * self.position_bias_scale
        return (bias - bias.detach().amax(dim=(-2, -1), keepdim=True)).exp().flatten(0, 1).unsqueeze(1)

    def weigh(self, kernel: torch.Tensor) -> torch.Tensor:
        """The kernel of the numerator, which alone has the attention scale."""
        if self.attention_scale is not None:
            return kernel * self.attention_scale.to(kernel.dtype).flatten(0, 1).unsqueeze(1)
        if self.attention_scale_type == "signed":
            positive, negative = kernel.chunk(2)
            return torch.cat([positive, -negative])
        return kernel / self.num_queries if self.attention_scale_type == "mean" else kernel
