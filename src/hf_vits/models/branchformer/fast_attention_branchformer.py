"""Attention of linear cost through one global query and one global key (Fastformer)."""

import torch
from torch import nn

from ...layers.pooling import masked_softmax


class FastAttention(nn.Module):
    """Additive attention of Wu et al., "Fastformer", arXiv 2108.09084, with the query projection as values.

    As in espnet2/asr/layers/fastformer.py. There are no attention probabilities between queries and keys.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        self.num_heads = num_heads
        self.scaling = (hidden_size // num_heads) ** -0.5
        self.query_key = nn.Linear(hidden_size, 2 * hidden_size)
        self.query_score = nn.Linear(hidden_size, num_heads)
        self.key_score = nn.Linear(hidden_size, num_heads)
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, length, hidden_size) to the same shape.

        Args:
            frame_mask: boolean (batch, length), False for padding, which is not attended to; None for no padding.
        """
        query, key = self.query_key(hidden_states).chunk(2, dim=-1)
        keys = key * self.pool(query, self.query_score(query), frame_mask)
        attended = query * self.pool(keys, self.key_score(keys), frame_mask)
        return self.dropout(self.projection(attended)) + query

    def pool(self, states: torch.Tensor, scores: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
        """Average over time, in each head weighted by the softmax of its scores.

        Args:
            states: (batch, length, hidden_size).
            scores: (batch, length, heads).

        Returns:
            (batch, 1, hidden_size).
        """
        weights = masked_softmax(scores * self.scaling, None if frame_mask is None else frame_mask[..., None])
        by_head = states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        pooled = torch.matmul(weights.transpose(1, 2)[:, :, None].to(states.dtype), by_head)
        return self.dropout(pooled.transpose(1, 2).flatten(2))
