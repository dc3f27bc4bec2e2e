"""Taps: record or change what happens inside the blocks of any vision model.

`record` returns block outputs, attentions, queries, keys, values, norms and residual branches of one forward pass.
`tapped` is its form as a context manager, which can also change them. Both work on hf_vits' models, on those of
transformers and on timm's, plain or in `TimmWrapperModel`, since they look for structure, not for a model's names:

- Blocks are the innermost elements of module lists that contain an attention module. In a network without attention
  they are the outermost elements that are called a block, layer or bottleneck.
- Queries, keys, values and attentions are read where the model calls transformers' attention interface or PyTorch's
  `scaled_dot_product_attention`.
- Residual branches are read at the additions inside a block one of whose addends is the block's input or the result
  of the previous such addition.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_vits.layers.convolution import to_map, to_tokens

ATTENTION_FACETS = ("queries", "keys", "values", "attention_scores", "attentions")
BRANCH_FACETS = ("attention_branches", "mlp_branches")
FACETS = ("blocks", "attention_inputs", *ATTENTION_FACETS, *BRANCH_FACETS, "norm1", "norm2")

PREFIX_TOKENS = ("cls_token", "class_token", "class_embedding", "dist_token", "distillation_token", "register_tokens")
CONVOLUTIONAL_BLOCK = re.compile(r"(?<!conv)(block|layer|bottleneck|residual|separableconv)$", re.IGNORECASE)
SHORTCUTS = ("shortcut", "downsample", "skip")
ADDITIONS = ("add", "__add__", "__radd__", "add_", "__iadd__")
INTERFACE = "hf_vits_taps"

Edit = Callable[[Tensor, int], Tensor]


class Addends(NamedTuple):
    """The two addends of a residual sum, both (batch, tokens, channels)."""

    skip: Tensor
    branch: Tensor


@dataclass
class Recording:
    """What `record` saw in one forward pass: a list for each wanted facet, with an entry per block of `layers`.

    Attributes:
        layers: indices of the blocks, counted from 0 in the order of execution.
        output: what the model returned.
        blocks: block outputs without the final norm, (batch, tokens, channels); feature maps become tokens.
        attention_inputs: input of the attention module, (batch, tokens, channels).
        queries, keys, values: (batch, heads, tokens, head_dim), as they enter the product, before scaling.
        attention_scores: (batch, heads, queries, keys), before the softmax, with bias and mask.
        attentions: (batch, heads, queries, keys), after the softmax. Where attention is within windows, the first
            axis of these five has batch * windows entries.
        attention_branches, mlp_branches: `Addends` of the residual sum of each branch. The only branch of a block
            without attention is in `mlp_branches`.
        norm1, norm2: outputs of the block's first and second normalisation, (batch, tokens, channels).
        num_prefix_tokens: class, distillation and register tokens in front of the patches.
        grids: (height, width) of the patch tokens of each block; None where they are no grid.
    """

    layers: list[int]
    output: Any = None
    blocks: list[Tensor] = field(default_factory=list)
    attention_inputs: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    attention_scores: list[Tensor] = field(default_factory=list)
    attentions: list[Tensor] = field(default_factory=list)
    attention_branches: list[Addends] = field(default_factory=list)
    mlp_branches: list[Addends] = field(default_factory=list)
    norm1: list[Tensor] = field(default_factory=list)
    norm2: list[Tensor] = field(default_factory=list)
    num_prefix_tokens: int = 0
    grids: list[tuple[int, int] | None] = field(default_factory=list)

    @property
    def grid(self) -> tuple[int, int]:
        """Return the (height, width) that all blocks have; ValueError where blocks differ or tokens are no grid."""
        grids = set(self.grids)
        if len(grids) != 1 or None in grids:
            raise ValueError(f"the blocks have the grids {self.grids}: choose one of `grids`")
        return next(grid for grid in grids if grid)


def vision_encoder(model: nn.Module) -> nn.Module:
    """Return the part of a model that encodes images: CLIP's vision model, the base model under a head."""
    part: Any = getattr(model, "vision_model", None)
    if isinstance(part, nn.Module):
        return part
    base: Any = getattr(model, "base_model", None)
    return base if isinstance(base, nn.Module) else model


def is_attention(module: nn.Module) -> bool:
    """Return whether a module is called an attention."""
    return "attention" in type(module).__name__.lower() and not isinstance(module, nn.ModuleList | nn.Sequential)


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model in the order of its module lists, see the head of this module.

    Raises:
        ValueError: the model has no lists of blocks.
    """
    root = vision_encoder(model)
    elements = [
        child
        for name, module in root.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and not name.endswith("branches")
        for child in module.children()
    ]
    attending = [e for e in elements if not is_attention(e) and any(is_attention(m) for m in e.modules())]
    outer = {id(e) for e in attending for other in attending if e is not other and other in set(e.modules())}
    blocks = [e for e in attending if id(e) not in outer]
    if not blocks:
        named = [e for e in elements if CONVOLUTIONAL_BLOCK.search(type(e).__name__)]
        inner = {id(m) for e in named for m in e.modules() if m is not e}
        blocks = [e for e in named if id(e) not in inner and any(True for _ in e.children())]
    if not blocks:
        raise ValueError(
            f"found no blocks in {type(model).__name__}: expected a module list of layers with an attention module, "
            "or of layers whose class names end in Block, Layer or Bottleneck"
        )
    return list(dict.fromkeys(blocks))


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


def grid_of_tokens(count: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the (rows, columns) with `count` tokens whose aspect ratio is nearest to the image's; None: no grid.

    Args:
        size: (height, width) of the image.
    """
    ratio = size[0] / size[1]

    def mismatch(rows: int) -> float:
        own = rows / (count // rows) / ratio
        return max(own, 1 / own)

    rows = min((n for n in range(1, count + 1) if count % n == 0), key=mismatch, default=0)
    return (rows, count // rows) if rows and mismatch(rows) < 1.5 else None


def as_tokens(value: Tensor, channels_last: bool) -> Tensor:
    """Map a feature map to (batch, tokens, channels); tokens stay as they are."""
    if value.ndim != 4:
        return value
    return value.flatten(1, 2) if channels_last else to_tokens(value)


def is_channels_last(block: nn.Module, value: Tensor) -> bool:
    """Return whether a block's feature maps have the channels in the last axis, as its LayerNorm shows."""
    if value.ndim != 4:
        return False
    widths = {m.normalized_shape[-1] for m in block.modules() if isinstance(m, nn.LayerNorm)}
    fits_last, fits_first = value.shape[-1] in widths, value.shape[1] in widths
    convolves = any(isinstance(m, nn.Conv2d) for m in block.modules())
    return fits_last and not (fits_first and convolves)


def same(first: Any, second: Any) -> bool:
    """Return whether two tensors are one, or the same memory in another shape."""
    if first is second:
        return True
    if first.numel() != second.numel() or first.device.type == "meta":
        return False
    return first.data_ptr() == second.data_ptr()


class Taps(TorchFunctionMode):
    """State of a forward pass under `tapped`: the block that runs, its residual stream, what is kept and changed."""

    def __init__(self, blocks: Sequence[nn.Module], layers: list[int], wanted: set[str], edits: Mapping[str, Edit]):
        super().__init__()
        self.wanted, self.edits = wanted, edits
        self.layers = layers
        self.indices = {blocks[layer]: layer for layer in layers}
        self.kept: dict[str, dict[int, Any]] = {facet: {} for facet in FACETS}
        self.shapes: dict[int, tuple[int, tuple[int, int] | None]] = {}
        self.block: nn.Module | None = None
        self.streams: list[Tensor] = []
        self.attended = self.busy = False
        self.num_norms = 0
        scores = {"attention_scores", "attentions"}
        self.needs_scores = bool(scores & (wanted | set(edits)))

    def tap(self, facet: str, value: Tensor) -> Tensor:
        """Change a value of the running block where an edit asks for it, keep it where wanted, and return it."""
        if self.block is None:
            return value
        layer = self.indices[self.block]
        if facet not in self.edits and facet not in self.wanted:
            return value
        channels_last = facet not in ATTENTION_FACETS and is_channels_last(self.block, value)
        tokens = value if facet in ATTENTION_FACETS else as_tokens(value, channels_last)
        if facet in self.edits:
            tokens = self.edits[facet](tokens, layer)
            value = self.restored(tokens, value, channels_last)
        if facet in self.wanted:
            self.kept[facet][layer] = tokens
        return value

    def restored(self, tokens: Tensor, value: Tensor, channels_last: bool) -> Tensor:
        """Return changed tokens in the layout of the value that they came from."""
        if tokens.shape == value.shape:
            return tokens
        return tokens.view(value.shape) if channels_last else to_map(tokens, (value.shape[2], value.shape[3]))

    def enter_block(self, block: nn.Module, arguments: tuple, keywords: dict) -> None:
        self.block, self.attended, self.num_norms = block, False, 0
        stream = arguments[0] if arguments else next(iter(keywords.values()))
        self.streams = [stream]

    def leave_block(self, block: nn.Module, arguments: tuple, output: Any) -> Any:
        value = output[0] if isinstance(output, tuple | list) else output
        last = is_channels_last(block, value)
        grid = None if value.ndim != 4 else tuple(value.shape[1:3] if last else value.shape[2:])
        self.shapes[self.indices[block]] = (as_tokens(value, last).shape[-2], grid)
        changed = self.tap("blocks", value)
        self.block = None
        if changed is value:
            return None
        return (changed, *output[1:]) if isinstance(output, tuple | list) else changed

    def enter_attention(self, module: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict] | None:
        if self.block is None:
            return None
        if arguments:
            return (self.tap("attention_inputs", arguments[0]), *arguments[1:]), keywords
        name = next(iter(keywords))
        return arguments, {**keywords, name: self.tap("attention_inputs", keywords[name])}

    def leave_attention(self, module: nn.Module, arguments: tuple, output: Any) -> None:
        self.attended = True

    def leave_norm(self, module: nn.Module, arguments: tuple, output: Tensor) -> Tensor | None:
        if self.block is None:
            return None
        self.num_norms += 1
        if self.num_norms > 2:
            return None
        changed = self.tap(f"norm{self.num_norms}", output)
        return None if changed is output else changed

    def leave_shortcut(self, module: nn.Module, arguments: tuple, output: Tensor) -> None:
        self.streams.append(output)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float | None, dropout: float):
        """Return the attended values (batch, heads, queries, head_dim) and the probabilities, None if not needed."""
        self.busy = True
        try:
            query, key, value = self.tap("queries", query), self.tap("keys", key), self.tap("values", value)
            if self.block is None or not self.needs_scores:
                attended = nn.functional.scaled_dot_product_attention(
                    query, key, value, mask, dropout_p=dropout, scale=scaling
                )
                return attended, None
            scores = (query @ key.transpose(-2, -1)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
            scores = self.tap("attention_scores", scores)
            precision = torch.promote_types(scores.dtype, torch.float32)
            probabilities = self.tap("attentions", scores.softmax(dim=-1, dtype=precision).to(value.dtype))
            return nn.functional.dropout(probabilities, dropout, training=dropout > 0) @ value, probabilities
        finally:
            self.busy, self.attended = False, True

    def add(self, skip: Tensor, branch: Tensor) -> Tensor:
        """Return the sum of a skip input and a branch, after keeping or changing the branch."""
        assert self.block is not None
        facet = "attention_branches" if self.attended else "mlp_branches"
        layer = self.indices[self.block]
        if facet in self.edits or facet in self.wanted:
            last = is_channels_last(self.block, branch)
            tokens = as_tokens(branch, last)
            if facet in self.edits:
                tokens = self.edits[facet](tokens, layer)
                branch = self.restored(tokens, branch, last)
            if facet in self.wanted:
                self.kept[facet][layer] = Addends(as_tokens(skip, last), tokens)
        self.attended = False
        total = torch.add(skip, branch)
        self.streams = [total]
        return total

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.block is None or self.busy:
            return func(*args, **kwargs)
        if func is nn.functional.scaled_dot_product_attention:
            return self.fused_attention(*args, **kwargs)
        if func.__name__ in ADDITIONS and len(args) == 2 and not kwargs:
            first, second = args
            if isinstance(first, Tensor) and isinstance(second, Tensor) and first.shape == second.shape:
                for stream in self.streams[::-1]:
                    if same(first, stream):
                        return self.add(first, second)
                    if same(second, stream):
                        return self.add(second, first)
        return func(*args, **kwargs)

    def fused_attention(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **kwargs):
        """Take the place of PyTorch's `scaled_dot_product_attention`."""
        if is_causal:
            return nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **kwargs
            )
        return self.attend(query, key, value, attn_mask, scale, dropout_p)[0]

    def recording(self, model: nn.Module, size: tuple[int, int] | None, output: Any) -> Recording:
        """Return what was kept. ValueError where a block did not run or has no such facet."""
        self.check(model)
        kept = {facet: [self.kept[facet][layer] for layer in self.layers] for facet in self.wanted}
        prefix = count_prefix_tokens(model)
        grids = []
        for layer in self.layers:
            count, grid = self.shapes[layer]
            grids.append(grid if grid or size is None else grid_of_tokens(count - prefix, size))
        return Recording(self.layers, output, **kept, num_prefix_tokens=prefix, grids=grids)

    def check(self, model: nn.Module) -> None:
        blocks = {layer: block for block, layer in self.indices.items()}
        for facet in sorted(self.wanted):
            missing = [layer for layer in self.layers if layer not in self.kept[facet]]
            if missing:
                block = blocks[missing[0]]
                raise ValueError(
                    f"{type(model).__name__} has no {facet} in block {missing[0]}, a {type(block).__name__}: "
                    f"{reason(facet, missing[0] in self.shapes)}"
                )


def reason(facet: str, has_run: bool) -> str:
    """Return why a facet was not found in a block."""
    if not has_run:
        return "the block did not run in this forward pass"
    if facet in ATTENTION_FACETS:
        return (
            "it does not compute softmax attention by transformers' attention interface or PyTorch's "
            "scaled_dot_product_attention"
        )
    if facet in BRANCH_FACETS:
        return "it adds no such branch to its input"
    return "it has no such module"


_active: list[Taps] = []


def interface_attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """Compute attention in a model under `tapped`, as an implementation of transformers' attention interface."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    attended, probabilities = _active[-1].attend(query, key, value, attention_mask, scaling, dropout)
    return attended.transpose(1, 2).contiguous(), probabilities


ALL_ATTENTION_FUNCTIONS.register(INTERFACE, interface_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(INTERFACE, eager_mask)


@contextmanager
def attention_through_taps(model: nn.Module) -> Iterator[None]:
    """Let all attention of a model go through `Taps.attend` inside the context."""
    configs = {id(c): c for m in model.modules() if hasattr(c := getattr(m, "config", None), "_attn_implementation")}
    fused: list[Any] = [module for module in model.modules() if hasattr(module, "fused_attn")]
    before = [(config, config._attn_implementation) for config in configs.values()]
    was_fused = [(module, module.fused_attn) for module in fused]
    try:
        for config, _ in before:
            config._attn_implementation = INTERFACE
        for module in fused:
            module.fused_attn = True
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name
        for module, flag in was_fused:
            module.fused_attn = flag


@contextmanager
def tapped(
    model: nn.Module,
    wanted: Sequence[str] = (),
    layers: Sequence[int] | None = None,
    edits: Mapping[str, Edit] | None = None,
) -> Iterator[Taps]:
    """Record or change what happens inside a model's blocks, in every forward pass inside the context.

    Example, which removes the MLP of block 3: `with tapped(model, layers=[3], edits={"mlp_branches": lambda branch,
    layer: 0 * branch}): logits = model(pixel_values).logits`.

    Args:
        model: see `record`.
        wanted: facets to keep (`FACETS`).
        layers: indices of the blocks that are recorded and changed, negative ones from the end; None for all.
        edits: {facet: function of (value, index of the block)}; the model goes on with what the function returns, of
            the same shape. The shapes are as in `Recording`; of a residual sum the function gets the branch. Setting
            entries of `attention_scores` to minus infinity restricts the attention.

    Returns:
        The taps; `kept` has {facet: {layer: value}} of the latest forward pass.

    Raises:
        ValueError: a facet or a layer that does not exist, or a model without blocks.
    """
    edits = edits or {}
    if unknown := [facet for facet in (*wanted, *edits) if facet not in FACETS]:
        raise ValueError(f"expected facets out of {', '.join(FACETS)}, got {', '.join(map(str, unknown))}")
    blocks = find_blocks(model)
    chosen = range(len(blocks)) if layers is None else layers
    if out := [layer for layer in chosen if not -len(blocks) <= layer < len(blocks)]:
        raise ValueError(f"{type(model).__name__} has blocks 0 to {len(blocks) - 1}, got {out}")
    taps = Taps(blocks, [layer % len(blocks) for layer in chosen], set(wanted), edits)
    touched = taps.wanted | set(edits)
    with ExitStack() as stack:
        for block in taps.indices:
            handles = [
                block.register_forward_pre_hook(taps.enter_block, with_kwargs=True, prepend=True),
                block.register_forward_hook(taps.leave_block),
            ]
            attentions = [m for m in block.modules() if is_attention(m)]
            inner = {id(m) for a in attentions for m in a.modules() if m is not a}
            for attention in attentions:
                if id(attention) not in inner:
                    handles.append(attention.register_forward_pre_hook(taps.enter_attention, with_kwargs=True))
                    handles.append(attention.register_forward_hook(taps.leave_attention))
            if touched & {"norm1", "norm2"}:
                within = {id(m) for a in attentions for m in a.modules()}
                norms = (m for m in block.modules() if "norm" in type(m).__name__.lower() and id(m) not in within)
                handles += [norm.register_forward_hook(taps.leave_norm) for norm in norms if not list(norm.children())]
            for name, child in block.named_children():
                if name in SHORTCUTS:
                    handles.append(child.register_forward_hook(taps.leave_shortcut))
            for handle in handles:
                stack.callback(handle.remove)
        if touched & {*ATTENTION_FACETS, *BRANCH_FACETS}:
            stack.enter_context(attention_through_taps(model))
            stack.enter_context(taps)
            _active.append(taps)
            stack.callback(_active.pop)
        yield taps


@contextmanager
def without_masking(model: nn.Module, images: Tensor) -> Iterator[dict[str, Tensor]]:
    """Let a masked autoencoder of transformers see all patches in order inside the context.

    Yields the keyword arguments of its `forward` that this needs; none for other models.
    """
    config: Any = getattr(model, "config", None)
    if not hasattr(getattr(vision_encoder(model), "embeddings", None), "random_masking"):
        yield {}
        return
    count = (images.shape[-2] // config.patch_size) * (images.shape[-1] // config.patch_size)
    before, config.mask_ratio = config.mask_ratio, 0.0
    try:
        yield {"noise": torch.arange(count, device=images.device).float().expand(len(images), -1)}
    finally:
        config.mask_ratio = before


def record(
    model: nn.Module,
    inputs: Tensor | Mapping[str, Tensor],
    wanted: str | Sequence[str],
    layers: Sequence[int] | None = None,
    gradients: bool = False,
) -> Recording:
    """Run a model and return what happens inside its blocks.

    Only what is wanted is computed and kept. The model runs in evaluation mode, a masked autoencoder of transformers
    without masking.

    Example: `record(model, pixel_values, ["blocks", "keys"], layers=[-1]).keys[0]`.

    Args:
        model: of hf_vits, of transformers or of timm; of CLIP the vision encoder runs.
        inputs: pixel_values (batch, channels, height, width), or the keyword arguments of the model's `forward`.
        wanted: one of `FACETS`, or several.
        layers: indices of blocks, negative ones from the end; None for all.
        gradients: whether gradients can flow back from what is recorded.

    Raises:
        ValueError: an unknown facet or layer; a model without blocks; a block without such a facet.
    """
    model = vision_encoder(model) if hasattr(model, "vision_model") else model
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    keywords: Mapping[str, Tensor] = {} if isinstance(inputs, Tensor) else inputs
    images = inputs if isinstance(inputs, Tensor) else next(v for v in inputs.values() if v.ndim >= 4)
    size = (images.shape[-2], images.shape[-1]) if images.ndim == 4 else None
    was_training = model.training
    try:
        with (
            torch.set_grad_enabled(gradients),
            tapped(model.eval(), wanted, layers) as taps,
            without_masking(model, images) as extra,
        ):
            positional = [inputs] if isinstance(inputs, Tensor) else []
            output = model(*positional, **{**extra, **keywords})
        return taps.recording(model, size, output)
    finally:
        model.train(was_training)
