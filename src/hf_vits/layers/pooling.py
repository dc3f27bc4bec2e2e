"""Pooling of tokens to one vector."""

import torch
from torch import nn

from .attention import attend
from .mlp import MLP


class AttentionPooling(nn.Module):
    """Multi-head attention pooling (MAP): a learned probe attends to all tokens, then an MLP with residual.

    Zhai et al., "Scaling Vision Transformers", arXiv 2106.04560; big_vision/models/vit.py. The probe is not
    normalised, and there is no residual connection around the attention.
    """

    def __init__(self, config):
        super().__init__()
        hidden_size = config.hidden_size
        self.config = config
        self.num_heads = config.num_attention_heads
        self.scaling = (hidden_size // self.num_heads) ** -0.5
        self.attention_dropout = 0.0
        self.is_causal = False
        self.probe = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(hidden_size, config.intermediate_size, config.hidden_act)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to (batch, hidden_size)."""
        batch, tokens, _ = hidden_states.shape
        query = self.query(self.probe).view(1, 1, self.num_heads, -1).transpose(1, 2).expand(batch, -1, -1, -1)
        key_value = self.key_value(hidden_states).view(batch, tokens, 2, self.num_heads, -1)
        key, value = key_value.permute(2, 0, 3, 1, 4).unbind(0)
        attended, _ = attend(self, query, key, value)
        pooled = self.projection(attended.flatten(2))
        return (pooled + self.mlp(self.norm(pooled)))[:, 0]


class SequencePooling(nn.Module):
    """Mean of the tokens, weighted by a softmax over learned scores (arXiv 2104.05704, section 3.2)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to (batch, hidden_size).

        Args:
            mask: boolean (batch, tokens), False for tokens to leave out; None for all tokens.
        """
        scores = self.score(hidden_states)
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None], torch.finfo(scores.dtype).min)
        return torch.matmul(scores.softmax(dim=1).transpose(1, 2), hidden_states).squeeze(1)


class TokenPooling(nn.Module):
    """Selection of the first token, usually the class token."""

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to (batch, hidden_size); `mask` is not used."""
        return hidden_states[:, 0]


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Compute the softmax over axis 1 where `mask`, which broadcasts to the scores, is True; 0 elsewhere."""
    if mask is None:
        return scores.softmax(dim=1)
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(dim=1).masked_fill(~mask, 0.0)


class FramePooling(nn.Module):
    """Pooling of a sequence without parameters: the "mean", the "max" or the "first" token.

    Args:
        kind: "mean", "max" or "first".
        dropout: dropout rate before pooling, in training (espnet2/asr/decoder/linear_decoder.py).
    """

    def __init__(self, kind: str, dropout: float = 0.0):
        super().__init__()
        self.kind = kind
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to (batch, hidden_size); `mask` is as in `SequencePooling`."""
        hidden_states = self.dropout(hidden_states)
        if self.kind == "first":
            return hidden_states[:, 0]
        # Mean and maximum of a sequence that is all padding are 0.
        if self.kind == "max":
            if mask is None:
                return hidden_states.amax(dim=1)
            lowest = torch.finfo(hidden_states.dtype).min
            largest = hidden_states.masked_fill(~mask[..., None], lowest).amax(dim=1)
            return largest.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
        if mask is None:
            return hidden_states.mean(dim=1)
        count = mask.sum(dim=1, keepdim=True).clamp(min=1)
        return (hidden_states * mask[..., None]).sum(dim=1) / count
