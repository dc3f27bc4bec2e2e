"""Weights of the attention and MLP branches in each layer of a Branchformer (arXiv 2207.02971)."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm
from transformers import PreTrainedModel

from hf_vits.models.branchformer.merging_branchformer import FixedAverageMerge, LearnedAverageMerge, SingleBranch

BRANCHES = ("attention", "MLP")


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
