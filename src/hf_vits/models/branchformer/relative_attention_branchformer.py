"""Self-attention with relative positions: scores also depend on the distance of key and query, as sinusoids.

Dai et al., "Transformer-XL", arXiv 1901.02860, section 3.3, as implemented in ESPnet
(espnet/nets/pytorch_backend/transformer/attention.py).
"""

import torch
from torch import nn

from ...layers.attention import SelfAttention, attend


def by_distance(products: torch.Tensor) -> torch.Tensor:
    """Select for each query and key the product that belongs to their distance ("relative shift"); returns a view.

    Args:
        products: contiguous (..., length, 2 * length), products of each query with the rows of `RelativeSinusoids`.

    Returns:
        (..., length, length); element [i, j] is the product of query i with the row of distance i - j.
    """
    length = products.shape[-2]
    # From one query to the next, the selected products start one column earlier.
    skewed = products.flatten(-2)[..., length - 1 : length - 1 + length * (2 * length - 1)]
    return skewed.unflatten(-1, (length, 2 * length - 1))[..., :length]


def by_legacy_shift(products: torch.Tensor) -> torch.Tensor:
    """Apply the relative shift of older ESPnet models, which is exact only on and below the diagonal.

    Above the diagonal, after a diagonal of zeros, follow products of the next query.

    Args:
        products: contiguous (..., length, 1 + length), the first column zero.

    Returns:
        (..., length, length).
    """
    length = products.shape[-2]
    return products.flatten(-2)[..., length:].unflatten(-1, (length, length))


class RelativeSelfAttention(SelfAttention):
    """Self-attention with a term for the distance of query and key in every score.

    The score of query i on key j is (q_i + u) k_j + (q_i + v) W r_(i-j), scaled, with u and v learned per head and r
    a sinusoid.

    Args:
        only_backward: whether the term is left out for keys after their query.
        legacy: whether to use the relative shift of older ESPnet models, see `LegacyRelativeSinusoids`.
    """

    def __init__(
        self,
        config,
        hidden_size: int,
        num_heads: int,
        attention_dropout: float = 0.0,
        only_backward: bool = False,
        legacy: bool = False,
    ):
        super().__init__(config, hidden_size, num_heads, attention_dropout=attention_dropout)
        self.num_heads = num_heads
        self.only_backward = only_backward
        self.legacy = legacy
        self.distance = nn.Linear(hidden_size, hidden_size, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(num_heads, hidden_size // num_heads))
        self.distance_bias = nn.Parameter(torch.zeros(num_heads, hidden_size // num_heads))

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute self-attention.

        Args:
            hidden_states: (batch, length, hidden_size).
            position_states: (2 * length, hidden_size), rows of `RelativeSinusoids`; if legacy, (length, hidden_size).
            attention_mask: additive bias that broadcasts to (batch, heads, length, length), or None.

        Returns:
            (batch, length, hidden_size), and the probabilities, None unless the implementation is eager.
        """
        query, key, value = self.split(self.qkv(hidden_states))
        scores = self.distance_scores(query, position_states)
        if attention_mask is not None:
            scores = scores + attention_mask
        query = query + self.content_bias[:, None]
        attended, probabilities = attend(self, query, key, value, scores, **kwargs)
        return self.projection(attended.flatten(2)), probabilities

    def distance_scores(self, query: torch.Tensor, position_states: torch.Tensor) -> torch.Tensor:
        """Return the distance term of the scaled scores: (batch, heads, length, length)."""
        batch, _, length, _ = query.shape
        rows = self.distance(position_states) * self.scaling
        if self.legacy:
            rows = nn.functional.pad(rows, (0, 0, 1, 0))
        rows = rows.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)
        # With heads as batch axis, the table is multiplied once, not once per sequence of the batch.
        query = (query.transpose(1, 2) + self.distance_bias).flatten(0, 1).transpose(0, 1)
        products = torch.bmm(query, rows).unflatten(1, (batch, length))
        scores = (by_legacy_shift if self.legacy else by_distance)(products).transpose(0, 1)
        return scores.tril() if self.only_backward else scores
