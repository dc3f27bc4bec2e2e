"""Reading queries, keys and outputs of every softmax attention of a model during a forward pass.

It works for every model whose attention goes through transformers' attention interface, with the fused kernel and
with gradients. What is kept of a layer is decided where it runs, so that attention maps exist only where they are
asked for.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention import RECORDED, eager_attention_forward


class Attended(NamedTuple):
    """What an attention layer computed.

    Attributes:
        query, key: (batch, heads, tokens, head_dim).
        scaling: factor on their products.
        bias: what is added to the scores, or None.
        output: (batch, heads, tokens, head_dim), before the heads are joined.
    """

    query: Tensor
    key: Tensor
    scaling: float
    bias: Tensor | None
    output: Tensor

    def scores(self) -> Tensor:
        """Return the scores (batch, heads, queries, keys) before the softmax."""
        scores = self.query @ self.key.transpose(2, 3) * self.scaling
        return scores if self.bias is None else scores + self.bias


_recorders: list[tuple[Callable[[Attended], Tensor], list[Tensor]]] = []


def recorded_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute fused softmax attention, and let the recorder of `recording_attention`, if there is one, read it."""
    needs_bias_gradient = attention_mask is not None and attention_mask.requires_grad and torch.is_grad_enabled()
    attention: Any = eager_attention_forward if needs_bias_gradient else ALL_ATTENTION_FUNCTIONS["sdpa"]
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    output, _ = attention(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)
    if _recorders:
        record, kept = _recorders[-1]
        kept.append(record(Attended(query, key, scaling, attention_mask, output.transpose(1, 2))))
    return output, None


ALL_ATTENTION_FUNCTIONS.register(RECORDED, recorded_attention_forward)


@contextlib.contextmanager
def recording_attention(model: Any, record: Callable[[Attended], Tensor]) -> Iterator[list[Tensor]]:
    """Yield a list that fills with what `record` returns for every attention layer, in the order of their run.

    Args:
        model: a model of transformers or hf_vits. Its attention implementation is `RECORDED` inside the context;
            where it is so already, nothing is switched.
    """
    before = model.config._attn_implementation
    if before != RECORDED:
        model.set_attn_implementation(RECORDED)
    kept: list[Tensor] = []
    _recorders.append((record, kept))
    try:
        yield kept
    finally:
        _recorders.pop()
        if before != RECORDED:
            model.set_attn_implementation(before)
