"""Models with parts taken out: layers and branches, tokens, far attention.

Naseer et al., arXiv 2105.10497, section 3.1 (feature drop); Bhojanapalli et al., "Understanding Robustness of
Transformers for Image Classification", arXiv 2103.14586 (layers, restricted attention, correlation of layers), which
has no public code.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from hf_vits.layers.attention import eager_attention_forward

Distance = Literal["chebyshev", "manhattan", "euclidean"]


def draw_rows(num_tokens: int, rate: float, generator: Generator | None = None, num_prefix: int = 1) -> Tensor:
    """Draw the patches that feature drop sets to zero: int(rate * num_tokens) of them.

    vit_models/deit.py: the class token counts for how many patches are dropped, but is never one of them.

    Args:
        num_tokens: of an image, prefix tokens included.
    """
    patches = num_tokens - num_prefix
    if not 0 <= rate <= 1 or int(rate * num_tokens) > patches:
        raise ValueError(f"rate must be in [0, 1] and leave at most {patches} patches to drop, got {rate}")
    device = "cpu" if generator is None else generator.device
    return torch.randperm(patches, generator=generator, device=device)[: int(rate * num_tokens)]


@contextmanager
def edited_input(module: nn.Module, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the first argument of a module by `edit` of it while the context lasts."""

    def hook(_, arguments):
        return (edit(arguments[0]), *arguments[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def dropped_tokens(layer: nn.Module, rows: Tensor, num_prefix: int = 1):
    """Set patch tokens to zero at the input of a layer of tokens, the same for the whole batch.

    Example: `with dropped_tokens(model.layers[4], draw_rows(197, 0.5)): model(pixel_values)`.

    Args:
        rows: patches, counted without prefix tokens.
    """

    def edit(tokens: Tensor) -> Tensor:
        return tokens.index_fill(1, rows.to(tokens.device) + num_prefix, 0.0)

    return edited_input(layer, edit)


@contextmanager
def dropped_places(
    stage: nn.Module,
    rate: float,
    generator: Generator | None = None,
    draws: Tensor | None = None,
    after: bool = False,
) -> Iterator[None]:
    """Set places of the feature map at the input of a stage to zero, the same for all images and channels.

    vit_models/resnet.py, where places are dropped before one of the four stages or after the last.

    Args:
        rate: probability that a place is dropped.
        draws: uniform random numbers (rows, columns) in place of new ones; places above the rate remain.
        after: whether places of the stage's output are dropped instead.
    """

    def edit(maps: Tensor) -> Tensor:
        device = "cpu" if generator is None else generator.device
        drawn = torch.rand(maps.shape[2:], generator=generator, device=device) if draws is None else draws
        return maps * (drawn.to(maps.device) > rate)

    if not after:
        with edited_input(stage, edit):
            yield
        return
    handle = stage.register_forward_hook(lambda module, arguments, output: edit(output))
    try:
        yield
    finally:
        handle.remove()


def grid_distances(grid: tuple[int, int], distance: Distance) -> Tensor:
    """Return the distances (patches, patches) between the patches of a grid, in patches."""
    places = torch.cartesian_prod(*(torch.arange(side) for side in grid)).view(-1, 2).double()
    norms = {"chebyshev": float("inf"), "manhattan": 1.0, "euclidean": 2.0}
    if distance not in norms:
        raise ValueError(f"distance must be one of {', '.join(norms)}, got {distance!r}")
    return torch.cdist(places, places, p=norms[distance], compute_mode="donot_use_mm_for_euclid_dist")


def near_mask(grid: tuple[int, int], radius: float, distance: Distance = "chebyshev", num_prefix: int = 1) -> Tensor:
    """Return which tokens may attend to which: patches to patches within a radius, all to and from prefix tokens.

    Returns:
        Booleans (tokens, tokens), True where attention remains.
    """
    near = grid_distances(grid, distance) <= radius
    return nn.functional.pad(near, (num_prefix, 0, num_prefix, 0), value=True)


def similarity(states: Sequence[Tensor], centred: bool = False) -> Tensor:
    """Return the similarity of the same token's states in different layers, averaged over images and tokens.

    Args:
        states: for each layer (batch, channels) or (batch, tokens, channels).
        centred: whether each state's mean over channels is removed, for Pearson's correlation instead of the cosine.

    Returns:
        (layers, layers).
    """
    stacked = torch.stack([state.flatten(0, -2) for state in states]).double()
    if centred:
        stacked = stacked - stacked.mean(dim=-1, keepdim=True)
    stacked = nn.functional.normalize(stacked, dim=-1, eps=1e-30)
    return torch.einsum("inc,jnc->ij", stacked, stacked).div(stacked.shape[1]).to(states[0].dtype)


def update_ratios(states: Sequence[Tensor]) -> Tensor:
    """Return by how much each layer changes a token: the mean over images of |after - before| / |after|.

    Args:
        states: (batch, channels) of one token, before the first layer and after each.

    Returns:
        (layers,).
    """
    ratios = [(after - before).norm(dim=-1) / after.norm(dim=-1) for before, after in pairwise(states)]
    return torch.stack([ratio.mean() for ratio in ratios])


def layer_logits(model: Any, pixel_values: Tensor) -> list[Tensor]:
    """Return what a classifier on a class token says after every layer, with its last norm and head (section 4.3).

    Args:
        model: a DeiT or ViT of hf_vits for image classification; both heads of a distilled one are averaged.

    Returns:
        For each layer (batch, labels); the last are the model's logits.
    """
    encoder = model.base_model
    states = encoder(pixel_values, output_hidden_states=True, return_dict=True).hidden_states[1:]
    logits = []
    for state in states:
        tokens = encoder.norm(state)
        scores = model.classifier(encoder.pooler.represent(tokens[:, 0]))
        if getattr(model, "distillation_classifier", None) is not None:
            scores = (scores + model.distillation_classifier(encoder.pooler.represent(tokens[:, 1]))) / 2
        logits.append(scores)
    return logits


@contextmanager
def skipped(modules: Sequence[nn.Module], is_layer: bool = False) -> Iterator[None]:
    """Leave out layers or branches while the context lasts: nothing is rescaled.

    Args:
        modules: layers, whose input is then passed on, or attentions or MLPs of residual branches, which then add
            nothing. The tokens must be the first argument, and the first output of those that return several.
        is_layer: whether the modules are whole layers.
    """

    def hook(_, arguments, output):
        result = output[0] if isinstance(output, tuple) else output
        # A last layer may compute the first tokens alone.
        left = arguments[0][:, : result.shape[1]] if is_layer else torch.zeros_like(result)
        return (left, *output[1:]) if isinstance(output, tuple) else left

    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def restricted_attention(model: PreTrainedModel, allowed: Tensor) -> Iterator[None]:
    """Mask attention before the softmax in every layer while the context lasts.

    Args:
        model: whose attention goes through transformers' attention interface.
        allowed: booleans (tokens, tokens), such as from `near_mask`.

    Raises:
        ValueError: the model has not attended through the interface, so nothing was masked.
    """
    before, name, calls = model.config._attn_implementation, "hf_vits_restricted", 0
    attention = ALL_ATTENTION_FUNCTIONS.get_interface(before, eager_attention_forward)

    def attend(module, query, key, value, attention_mask, **kwargs):
        nonlocal calls
        calls += 1
        rows = allowed.to(query.device)[: query.shape[2]]
        bias = torch.zeros_like(rows, dtype=query.dtype).masked_fill(~rows, torch.finfo(query.dtype).min / 2)
        bias = bias[None, None] if attention_mask is None else attention_mask + bias
        return attention(module, query, key, value, bias, **kwargs)

    ALL_ATTENTION_FUNCTIONS[name] = attend
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        del ALL_ATTENTION_FUNCTIONS[name]
    if not calls:
        raise ValueError(
            f"{type(model).__name__} does not attend through transformers' attention interface: nothing was restricted"
        )
