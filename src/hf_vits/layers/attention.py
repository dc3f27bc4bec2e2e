"""Multi-head softmax attention behind transformers' attention interface."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out, so that its probabilities can be read.

    Args:
        query, key, value: (batch, heads, tokens, head_dim); keys and values may have another number of tokens.
        attention_mask: additive bias that broadcasts to (batch, heads, queries, keys), or None.

    Returns:
        The attended values (batch, queries, heads, head_dim) and the probabilities (batch, heads, queries, keys).
    """
    scores = torch.matmul(query * scaling, key.transpose(-2, -1))
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    dropped = nn.functional.dropout(probabilities, p=dropout, training=module.training)
    return torch.matmul(dropped, value).transpose(1, 2).contiguous(), probabilities


def without_probabilities(*arguments, **kwargs) -> tuple[torch.Tensor, None]:
    """`eager_attention_forward`, which returns None in place of the probabilities, as fused attention does."""
    return eager_attention_forward(*arguments, **kwargs)[0], None


def attend(module: Any, query, key, value, attention_mask=None, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention by the implementation that `module.config` asks for (eager, sdpa, flex or flash).

    `module` is an `Attention`, or has its attributes. Shapes as in `eager_attention_forward`; the probabilities are
    None for every implementation but eager.
    """
    if isinstance(attention_mask, torch.Tensor) and attention_mask.is_floating_point():
        attention_mask = attention_mask.to(query.dtype)
    implementation = module.config._attn_implementation
    if implementation == "flex_attention" and isinstance(attention_mask, torch.Tensor):
        # As a mask, flex attention would read the first head's alone.
        shape = (*query.shape[:3], key.shape[2])
        attention_mask, kwargs["position_bias"] = None, attention_mask.expand(shape)
    attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    if implementation == "sdpa" and query.device.type == "cpu":
        if attention_mask is not None and torch.is_grad_enabled() and attention_mask.requires_grad:
            # The fused kernel takes no bias that learns, and what stands in for it is slower than this.
            attention = without_probabilities
        elif (missing := value.shape[-1] - query.shape[-1]) > 0:
            # Nor does it take values wider than keys. Zeros change no score.
            query, key = nn.functional.pad(query, (0, missing)), nn.functional.pad(key, (0, missing))
    return attention(
        module,
        query,
        key,
        value,
        attention_mask,
        scaling=module.scaling,
        dropout=module.attention_dropout if module.training else 0.0,
        is_causal=False,
        **kwargs,
    )


def padding_bias(mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """What keeps keys out of attention, as a bias (batch, 1, queries or 1, keys).

    Args:
        mask: boolean (batch, queries or 1, keys), False for keys that are not seen.
        tokens: whose scores the bias is added to.
    """
    dtype = tokens.dtype
    if torch.is_autocast_enabled(tokens.device.type):
        dtype = torch.get_autocast_dtype(tokens.device.type)
    # Half of the most negative number, so that adding a score to it does not overflow.
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min / 2)[:, None]


class Attention(nn.Module):
    """Base of attention layers: what `attend` reads off them.

    A subclass returns a pair: the result, and the probabilities or None, which are recorded as `attentions`.

    Args:
        config: names the attention implementation (`_attn_implementation`).
        scaling: factor on the scores.
        attention_dropout: rate on the probabilities while training.
    """

    is_causal = False
    num_key_value_groups = 1

    def __init__(self, config, scaling: float, attention_dropout: float = 0.0):
        super().__init__()
        self.config = config
        self.scaling = scaling
        self.attention_dropout = attention_dropout


class QueryKeyValue(nn.Linear):
    """Queries, keys and values of all heads from one fused projection.

    A module of its own, so that the three can be recorded with `output_query_states=True` and its likes.

    Args:
        attention_size: width of all heads together, None for `hidden_size`.
    """

    def __init__(self, hidden_size: int, num_heads: int, bias: bool = True, attention_size: int | None = None):
        super().__init__(hidden_size, 3 * (attention_size or hidden_size), bias=bias)
        self.num_heads = num_heads

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(batch, tokens, hidden_size) to three tensors of (batch, heads, tokens, head_dim)."""
        batch, tokens, _ = hidden_states.shape
        fused = super().forward(hidden_states).view(batch, tokens, 3, self.num_heads, -1)
        # Unbound before the heads move forward: the backward pass then writes each gradient straight into its place.
        query, key, value = fused.unbind(2)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)


class SelfAttention(Attention):
    """Multi-head self-attention: fused projection, softmax attention, output projection.

    Args:
        config: names the attention implementation (`_attn_implementation`).
        hidden_size, num_heads: width of the tokens and how many heads share it.
        qkv_bias: whether the fused projection has a bias.
        attention_dropout, projection_dropout: rates on the probabilities and on the result.
        attention_size: width of all heads together, None for `hidden_size`.
        projection_bias: whether the output projection has one.
    """

    qkv_class = QueryKeyValue

    def __init__(
        self,
        config,
        hidden_size: int,
        num_heads: int,
        qkv_bias: bool = True,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
        attention_size: int | None = None,
        projection_bias: bool = True,
    ):
        attention_size = attention_size or hidden_size
        super().__init__(config, (attention_size // num_heads) ** -0.5, attention_dropout)
        self.qkv = self.qkv_class(hidden_size, num_heads, qkv_bias, attention_size)
        self.projection = nn.Linear(attention_size, hidden_size, bias=projection_bias)
        self.dropout = nn.Dropout(projection_dropout) if projection_dropout else nn.Identity()

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_queries: int | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Let tokens attend to one another.

        Args:
            hidden_states: (batch, tokens, hidden_size).
            attention_mask: additive bias that broadcasts to (batch, heads, queries, tokens), or None.
            num_queries: how many leading tokens attend, each to all tokens; None for all.

        Returns:
            (batch, queries, hidden_size), and the probabilities where the implementation has them.
        """
        query, key, value = self.qkv(hidden_states)
        if num_queries is not None:
            query = query[:, :, :num_queries]
        attended, probabilities = attend(self, query, key, value, attention_mask, **kwargs)
        return self.dropout(self.projection(attended.flatten(2))), probabilities
