"""Residual branches: their norm beside the skip input's in any transformer, their weights in a Branchformer.

Sources: Raghu et al., arXiv 2108.08810, and Walmer et al., arXiv 2212.03862, for norms; arXiv 2207.02971 for weights.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tqdm import tqdm
from transformers import PreTrainedModel

from hf_vits.models.branchformer.merging_branchformer import FixedAverageMerge, LearnedAverageMerge, SingleBranch

from .taps import Addends

BRANCHES = ("attention", "MLP")


def norm_ratio(
    addends: Addends,
    definition: Literal["frobenius", "token"] = "token",
    tokens: Literal["all", "class", "patches"] = "all",
    num_prefix_tokens: int = 1,
) -> torch.Tensor:
    """Return the norm of the skip input over the norm of the branch, for each image.

    Two definitions are in use. "token" (Raghu et al.): the ratio of each token's vectors. "frobenius" (vit_analysis):
    the ratio of the norms over tokens and channels together.

    Example: `torch.stack([norm_ratio(a).mean(0) for a in record(model, images, "mlp_branches").mlp_branches])`.

    Args:
        addends: of a residual sum, from `taps.record`.
        tokens: which count; the class token is token 0.

    Returns:
        (images, tokens) of the "token" definition, (images,) of "frobenius".

    Raises:
        ValueError: an unknown definition, or unknown tokens.
    """
    if tokens not in ("all", "class", "patches") or definition not in ("frobenius", "token"):
        raise ValueError(
            f"tokens must be all, class or patches and definition frobenius or token, got {tokens!r}, {definition!r}"
        )
    part = {"all": slice(None), "class": slice(1), "patches": slice(num_prefix_tokens, None)}[tokens]
    skip, branch = (addend[:, part] for addend in addends)
    dim = (1, 2) if definition == "frobenius" else (2,)
    return torch.linalg.vector_norm(skip, dim=dim) / torch.linalg.vector_norm(branch, dim=dim)


def plot_norm_ratios(ratios: Mapping[str, torch.Tensor]) -> Figure:
    """Plot the norm of the skip input over the branch's by depth, on a logarithmic scale.

    Args:
        ratios: {name of a line, such as "attention, class token": a ratio per block}.
    """
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, values in ratios.items():
        axes.plot(range(1, len(values) + 1), values.tolist(), marker="o", markersize=4, label=name)
    axes.axhline(1, color="gray", linewidth=0.8, linestyle="--")
    axes.set(xlabel="block", ylabel="norm of skip / norm of branch", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


@torch.no_grad()
def branch_weights(model: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]]) -> torch.Tensor:
    """Return the weights of the two branches in every layer for every recording.

    Layers with learned weights have other weights for each recording; fixed weights are the same for all.

    Example: `plot_branch_weights(branch_weights(model.eval(), [extractor(waveforms, return_tensors="pt")]))`.

    Args:
        model: a Branchformer whose branches are averaged, in evaluation mode.
        batches: outputs of the feature extractor, with input_features and attention_mask; other entries are ignored.

    Returns:
        (recordings, layers, 2), attention first.

    Raises:
        ValueError: the model concatenates its branches, or there are no batches.
    """
    encoder: Any = model.base_model
    merges = [layer.merge for layer in encoder.layers]
    fixed = [fixed_weights(layer) for layer in encoder.layers]
    rows = []
    for batch in tqdm(batches, desc="weights of branches", unit="batch", leave=False):
        inputs = {name: batch[name].to(model.device) for name in ("input_features", "attention_mask") if name in batch}
        learned = iter(encoder(**inputs, output_branch_weights=True).branch_weights or ())
        count = len(inputs["input_features"])
        layers = [
            next(learned).float().cpu() if isinstance(merge, LearnedAverageMerge) else weights.expand(count, 2)
            for merge, weights in zip(merges, fixed, strict=True)
        ]
        rows.append(torch.stack(layers, dim=1))
    if not rows:
        raise ValueError("expected at least one batch of recordings, got none")
    return torch.cat(rows)


def fixed_weights(layer: torch.nn.Module) -> torch.Tensor | None:
    """Return the branch weights (2,) of a layer with fixed weights, None for a layer that learns them."""
    if isinstance(layer.merge, SingleBranch):
        return torch.tensor([float(layer.attention_branch is not None), float(layer.mlp_branch is not None)])
    if isinstance(layer.merge, FixedAverageMerge):
        return torch.tensor([1 - layer.merge.second_weight, layer.merge.second_weight])
    if isinstance(layer.merge, LearnedAverageMerge):
        return None
    raise ValueError(
        'the branches of this model are concatenated and have no weights: merge_method="learned_average" has'
    )


def plot_branch_weights(weights: torch.Tensor) -> Figure:
    """Plot mean and standard deviation over recordings of each layer's branch weights.

    Args:
        weights: (recordings, layers, 2), from `branch_weights`.
    """
    layers = range(1, weights.shape[1] + 1)
    mean, deviation = weights.mean(dim=0), weights.std(dim=0, correction=0)
    figure = Figure(figsize=(max(5, 0.3 * len(layers) + 2), 3.2), layout="constrained")
    axes = figure.subplots()
    for branch, name in enumerate(BRANCHES):
        low, high = (mean[:, branch] + sign * deviation[:, branch] for sign in (-1, 1))
        (line,) = axes.plot(layers, mean[:, branch], marker="o", markersize=4, label=name)
        axes.fill_between(layers, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="layer", ylabel="weight", ylim=(-0.03, 1.03), xticks=layers)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
