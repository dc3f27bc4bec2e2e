"""Pictures of models with label tokens."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from hf_vits.analysis.label_attention import label_attention

from .grid import save_figure

_MOST_NAMED_LABELS = 40


def draw_label_attention(
    model: Any, pixel_values: Tensor, path: Path, known_labels: Tensor | None = None, layer: int = -1
) -> None:
    """Draw how much each label of C-Tran attends to each other label, averaged over heads and images.

    Args:
        model, pixel_values, known_labels: as for `analysis.label_attention.label_attention`.
        path: of the PNG to write.
        layer: index of the layer.

    Raises:
        ValueError: there is no such layer.
    """
    attention = label_attention(model, pixel_values, known_labels)
    if not -len(attention) <= layer < len(attention):
        raise ValueError(f"layer must be the index of one of {len(attention)} layers, got {layer}")
    shown = attention[layer].float().cpu().clone()
    shown.fill_diagonal_(float("nan"))  # a label's own token would hide the others
    names = [model.config.id2label[index] for index in range(len(shown))]
    side = min(3 + 0.25 * len(names), 14)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shown.numpy(), cmap="magma", vmin=0)
    axes.set(xlabel="attended label", ylabel="attending label", title="Attention between labels")
    figure.colorbar(image, ax=axes, label="attention", shrink=0.8)
    if len(names) <= _MOST_NAMED_LABELS:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    save_figure(figure, path)
