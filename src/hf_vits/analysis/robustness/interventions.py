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

from ..taps import count_prefix_tokens, find_blocks, tapped

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


def dropped_tokens(model: nn.Module, layer: int, rows: Tensor):
    """Set patch tokens to zero at the input of a layer, the same for the whole batch, while the context lasts.

    Example: `with dropped_tokens(model, 4, draw_rows(197, 0.5)): model(pixel_values)`.

    Args:
        model: any with layers of tokens, see `analysis.taps`.
        layer: counted from 0.
        rows: patches, counted without prefix tokens.
    """
    prefix = count_prefix_tokens(model)

    def edit(tokens: Tensor) -> Tensor:
        return tokens.index_fill(1, rows.to(tokens.device) + prefix, 0.0)

    return edited_input(block(model, layer), edit)


def block(model: nn.Module, layer: int) -> nn.Module:
    """Return a layer of a model, counted from 0; ValueError with the number of layers if there is none."""
    blocks = find_blocks(model)
    if not -len(blocks) <= layer < len(blocks):
        raise ValueError(f"{type(model).__name__} has layers 0 to {len(blocks) - 1}, got {layer}")
    return blocks[layer]


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
def skipped(
    model: nn.Module, layers: Sequence[int], part: Literal["layer", "attention", "mlp"] = "layer"
) -> Iterator[None]:
    """Leave out layers, or one of their residual branches, while the context lasts; nothing is rescaled.

    Example: `with skipped(model, [3], "attention"): logits = model(pixel_values).logits`.

    Args:
        model: any with layers of tokens, see `analysis.taps`.
        layers: counted from 0.
        part: "layer" passes on the layer's input; "attention" and "mlp" add nothing in their place.

    Raises:
        ValueError: a layer changes the number of tokens or channels, so that its input cannot take its output's
            place, or the part is unknown.
    """
    if part not in ("layer", "attention", "mlp"):
        raise ValueError(f'part must be "layer", "attention" or "mlp", got {part!r}')
    if part != "layer":
        edits = {f"{part}_branches": lambda branch, layer: torch.zeros_like(branch)}
        with tapped(model, layers=layers, edits=edits):
            yield
        return

    def hook(module: nn.Module, arguments: tuple, output: Any) -> Any:
        result = output[0] if isinstance(output, tuple) else output
        if result.shape != arguments[0].shape:
            raise ValueError(
                f"a {type(module).__name__} turns {tuple(arguments[0].shape)} into {tuple(result.shape)} and cannot "
                "be left out"
            )
        return (arguments[0], *output[1:]) if isinstance(output, tuple) else arguments[0]

    handles = [block(model, layer).register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def restricted_attention(model: nn.Module, allowed: Tensor) -> Iterator[None]:
    """Mask attention before the softmax in every layer while the context lasts.

    Args:
        model: any with softmax attention over all tokens, see `analysis.taps`.
        allowed: booleans (tokens, tokens), such as from `near_mask`; each token must be allowed something.

    Raises:
        ValueError: attention has other tokens than `allowed`, or nothing has attended.
    """
    calls = 0

    def edit(scores: Tensor, layer: int) -> Tensor:
        nonlocal calls
        calls += 1
        if scores.shape[-1] != allowed.shape[-1] or scores.shape[-2] > allowed.shape[-2]:
            raise ValueError(
                f"allowed is for {tuple(allowed.shape)} tokens, layer {layer} attends from {scores.shape[-2]} to "
                f"{scores.shape[-1]}"
            )
        return scores.masked_fill(~allowed.to(scores.device)[: scores.shape[-2]], -torch.inf)

    with tapped(model, edits={"attention_scores": edit}):
        yield
    if not calls:
        raise ValueError(f"no attention of {type(model).__name__} was computed inside the context")
