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
    """Compute softmax attention step by step, so that the probabilities can be returned.

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
    """Call `eager_attention_forward`, but return None for the probabilities, as fused attention does."""
    return eager_attention_forward(*arguments, **kwargs)[0], None


def attend(module: Any, query, key, value, attention_mask=None, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention by the implementation that `module.config` names (eager, sdpa, flex or flash).

    `module` is an `Attention` or has the same attributes. Shapes are as in `eager_attention_forward`. Only the eager
    implementation returns probabilities, the others None.
    """
    if isinstance(attention_mask, torch.Tensor) and attention_mask.is_floating_point():
        attention_mask = attention_mask.to(query.dtype)
    implementation = module.config._attn_implementation
    if implementation == "flex_attention" and isinstance(attention_mask, torch.Tensor):
        # Passed as a mask, flex attention would read the values of the first head alone.
        shape = (*query.shape[:3], key.shape[2])
        attention_mask, kwargs["position_bias"] = None, attention_mask.expand(shape)
    attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    if implementation == "sdpa" and query.device.type == "cpu":
        if attention_mask is not None and torch.is_grad_enabled() and attention_mask.requires_grad:
            # The fused kernel gives the bias no gradient; PyTorch's fallback is slower than the eager implementation.
            attention = without_probabilities
        elif (missing := value.shape[-1] - query.shape[-1]) > 0:
            # The fused kernel needs keys as wide as values. Padding with zeros changes no score.
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


def attention_scores(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Return the scaled scores before the softmax, (batch, heads, queries, keys), from states of `SplitHeads`."""
    return torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-2, -1))


def attention_values(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return the results of the heads before they are joined, (batch, heads, queries, head_dim)."""
    return nn.functional.scaled_dot_product_attention(query, key, value)


def padding_bias(mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return a boolean mask as an additive bias (batch, 1, queries or 1, keys) on attention scores.

    Args:
        mask: boolean (batch, queries or 1, keys), False for keys that must not be attended to.
        tokens: input of the attention; the bias has the dtype of its scores.
    """
    dtype = tokens.dtype
    if not tokens.is_meta and torch.is_autocast_enabled(tokens.device.type):
        dtype = torch.get_autocast_dtype(tokens.device.type)
    # Half of the most negative number, so that adding a score to it does not overflow.
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min / 2)[:, None]


class Attention(nn.Module):
    """Base of attention layers, with the attributes that `attend` reads.

    A subclass's `forward` returns its result and the probabilities or None, which are recorded as `attentions`.

    Args:
        config: names the attention implementation (`_attn_implementation`).
        scaling: factor on the scores.
        attention_dropout: dropout rate on the probabilities in training.
    """

    is_causal = False
    num_key_value_groups = 1

    def __init__(self, config, scaling: float, attention_dropout: float = 0.0):
        super().__init__()
        self.config = config
        self.scaling = scaling
        self.attention_dropout = attention_dropout


def fused_projection(hidden_size: int, attention_size: int, bias: bool = True) -> nn.Linear:
    """Make one linear layer for queries, keys and values, which initialisations recognise by `is_fused`.

    It is a plain `nn.Linear`, since adapters and quantization wrap or replace every one of them.

    Args:
        attention_size: channels of all heads together.
    """
    projection = nn.Linear(hidden_size, 3 * attention_size, bias=bias)
    projection.is_fused = True
    return projection


class SplitHeads(nn.Module):
    """Queries, keys and values of all heads, cut out of the output of a fused projection.

    A module, so that `output_query_states=True`, `output_key_states=True` and `output_value_states=True` can record
    its outputs.
    """

    def __init__(self, num_heads: int):
        super().__init__()
        self.num_heads = num_heads

    def forward(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map (batch, tokens, 3 * heads * head_dim) to three tensors of (batch, heads, tokens, head_dim)."""
        # Unbinding before transposing lets the backward pass write each gradient in place, without a copy.
        query, key, value = fused.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)


class SelfAttention(Attention):
    """Multi-head self-attention: fused projection, softmax attention, output projection.

    Args:
        config: names the attention implementation (`_attn_implementation`).
        hidden_size: channels of the tokens.
        num_heads: number of heads.
        qkv_bias: whether the fused projection has a bias.
        attention_dropout, projection_dropout: dropout rates on the probabilities and on the result.
        attention_size: channels of all heads together; None for `hidden_size`.
        projection_bias: whether the output projection has a bias.
    """

    split_class = SplitHeads

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
        self.qkv = fused_projection(hidden_size, attention_size, qkv_bias)
        self.split = self.split_class(num_heads)
        self.projection = nn.Linear(attention_size, hidden_size, bias=projection_bias)
        self.dropout = nn.Dropout(projection_dropout) if projection_dropout else nn.Identity()

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_queries: int | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute self-attention.

        Args:
            hidden_states: (batch, tokens, hidden_size).
            attention_mask: additive bias that broadcasts to (batch, heads, queries, tokens), or None.
            num_queries: only the first `num_queries` tokens are queries, keys are all tokens; None for all.

        Returns:
            (batch, queries, hidden_size), and the probabilities, None unless the implementation is eager.
        """
        query, key, value = self.split(self.qkv(hidden_states))
        if num_queries is not None:
            query = query[:, :, :num_queries]
        attended, probabilities = attend(self, query, key, value, attention_mask, **kwargs)
        return self.dropout(self.projection(attended.flatten(2))), probabilities
