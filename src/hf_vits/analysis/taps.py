"""Taps: record what happens inside the blocks of a vision transformer.

`record` finds blocks by structure, so it works on the models of hf_vits, transformers and timm: blocks are the
outermost elements of module lists that contain an attention module. Queries, keys, values and attentions are read
where the model calls PyTorch's `scaled_dot_product_attention`.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ATTENTION_FACETS = ("queries", "keys", "values", "attentions")
FACETS = ("blocks", "attention_inputs", *ATTENTION_FACETS)
PREFIX_TOKENS = ("cls_token", "class_token", "class_embedding", "dist_token", "distillation_token", "register_tokens")


@dataclass
class Recording:
    """What `record` saw in one forward pass: for each wanted facet a list with an entry per block of `layers`.

    Attributes:
        layers: indices of the blocks.
        output: what the model returned.
        blocks: block outputs without the final norm, (batch, tokens, channels).
        attention_inputs: input of the attention module, (batch, tokens, channels).
        queries, keys, values: (batch, heads, tokens, head_dim), as they enter the product, before scaling.
        attentions: (batch, heads, queries, keys), after the softmax.
        num_prefix_tokens: class, distillation and register tokens in front of the patches.
    """

    layers: list[int]
    output: Any = None
    blocks: list[Tensor] = field(default_factory=list)
    attention_inputs: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    attentions: list[Tensor] = field(default_factory=list)
    num_prefix_tokens: int = 0


def vision_encoder(model: nn.Module) -> nn.Module:
    """Return the part of a model that encodes images: CLIP's vision model, the base model under a head."""
    for name in ("vision_model", "base_model"):
        part: Any = getattr(model, name, None)
        if isinstance(part, nn.Module):
            return part
    return model


def is_attention(module: nn.Module) -> bool:
    """Return whether a module is called an attention."""
    return "attention" in type(module).__name__.lower() and not isinstance(module, nn.ModuleList | nn.Sequential)


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model in order.

    Raises:
        ValueError: no module list has elements with an attention module.
    """
    blocks: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in vision_encoder(model).modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or module in inside:
            continue
        for child in module.children():
            if child not in inside and not is_attention(child) and any(map(is_attention, child.modules())):
                blocks.append(child)
                inside.update(child.modules())
    if not blocks:
        raise ValueError(f"found no blocks in {type(model).__name__}: expected a module list of layers with attention")
    return blocks


def count_prefix_tokens(model: nn.Module) -> int:
    """Return the number of class, distillation and register tokens in front of the patches."""
    for owner in (getattr(model, "config", None), model, getattr(model, "timm_model", None), vision_encoder(model)):
        count = getattr(owner, "num_prefix_tokens", None)
        if isinstance(count, int):
            return count
    return sum(
        1 if parameter.ndim == 1 else parameter.shape[-2]
        for name, parameter in vision_encoder(model).named_parameters()
        if name.rpartition(".")[2] in PREFIX_TOKENS and "decoder" not in name
    )


class AttentionTap(TorchFunctionMode):
    """Keeps the arguments of scaled dot product attention while a block runs, and computes its probabilities.

    Args:
        wanted: some of `ATTENTION_FACETS`.
    """

    def __init__(self, wanted: set[str]):
        super().__init__()
        self.wanted = wanted
        self.layer: int | None = None
        self.kept: dict[int, dict[str, Tensor]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention and self.layer is not None:
            self.keep(*args, **kwargs)
        return func(*args, **kwargs)

    def keep(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_, scale=None, **__):
        kept = {"queries": query, "keys": key, "values": value}
        if "attentions" in self.wanted:
            scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
            if attn_mask is not None:
                is_bool = attn_mask.dtype == torch.bool
                scores = scores.masked_fill(~attn_mask, -torch.inf) if is_bool else scores + attn_mask
            kept["attentions"] = scores.softmax(dim=-1)
        assert self.layer is not None
        self.kept[self.layer] = kept


@contextmanager
def fused_attention(model: nn.Module) -> Iterator[None]:
    """Let all attention of a model call PyTorch's `scaled_dot_product_attention` inside the context."""
    with ExitStack() as stack:
        for module in model.modules():
            config = getattr(module, "config", None)
            for owner, name, value in ((config, "_attn_implementation", "sdpa"), (module, "fused_attn", True)):
                if hasattr(owner, name):
                    stack.callback(setattr, owner, name, getattr(owner, name))
                    setattr(owner, name, value)
        yield


def record(
    model: nn.Module,
    pixel_values: Tensor,
    wanted: str | Sequence[str],
    layers: Sequence[int] | None = None,
    gradients: bool = False,
    **keywords,
) -> Recording:
    """Run a model in evaluation mode and return what happens inside its blocks.

    Example: `record(model, pixel_values, ["blocks", "keys"], layers=[-1]).keys[0]`.

    Args:
        model: of hf_vits, of transformers or of timm; of CLIP the vision encoder runs.
        pixel_values: (batch, channels, height, width).
        wanted: one of `FACETS`, or several.
        layers: indices of blocks, negative ones from the end; None for all.
        gradients: whether gradients can flow back from what is recorded.
        keywords: further arguments of the model.

    Raises:
        ValueError: an unknown facet or layer; a model without blocks; a block without such a facet.
    """
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    if unknown := [facet for facet in wanted if facet not in FACETS]:
        raise ValueError(f"expected facets out of {', '.join(FACETS)}, got {', '.join(map(str, unknown))}")
    model = vision_encoder(model) if hasattr(model, "vision_model") else model
    blocks = find_blocks(model)
    chosen = list(range(len(blocks)) if layers is None else layers)
    if out := [layer for layer in chosen if not -len(blocks) <= layer < len(blocks)]:
        raise ValueError(f"{type(model).__name__} has blocks 0 to {len(blocks) - 1}, got {out}")
    recording = Recording([layer % len(blocks) for layer in chosen], num_prefix_tokens=count_prefix_tokens(model))
    tap = AttentionTap(set(wanted))
    outputs: dict[str, dict[int, Tensor]] = {"blocks": {}, "attention_inputs": {}}

    def watch(stack: ExitStack, layer: int) -> None:
        def enter(block, arguments):
            tap.layer = layer

        def leave(block, arguments, output):
            outputs["blocks"][layer] = output[0] if isinstance(output, tuple | list) else output
            tap.layer = None

        def enter_attention(module, arguments, keywords):
            outputs["attention_inputs"].setdefault(layer, (*arguments, *keywords.values())[0])

        attention = next(module for module in blocks[layer].modules() if is_attention(module))
        handles = [blocks[layer].register_forward_pre_hook(enter), blocks[layer].register_forward_hook(leave)]
        handles.append(attention.register_forward_pre_hook(enter_attention, with_kwargs=True))
        for handle in handles:
            stack.callback(handle.remove)

    was_training = model.training
    try:
        with torch.set_grad_enabled(gradients), fused_attention(model), ExitStack() as stack:
            for layer in set(recording.layers):
                watch(stack, layer)
            stack.enter_context(tap)
            recording.output = model.eval()(pixel_values, **keywords)
    finally:
        model.train(was_training)
    for facet in wanted:
        for layer in recording.layers:
            kept = outputs[facet] if facet in outputs else {n: facets[facet] for n, facets in tap.kept.items()}
            if layer not in kept:
                raise ValueError(
                    f"{type(model).__name__} has no {facet} in block {layer}: it does not attend by PyTorch's "
                    "scaled_dot_product_attention"
                )
            getattr(recording, facet).append(kept[layer])
    return recording
