"""Pictures of what clips are most similar to."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from .grid import save_figure

_SIDE = 4.2  # inches


def draw_similarities(matrices: Mapping[str, torch.Tensor], names: Sequence[str], path: Path) -> None:
    """Draw the similarities of clips to what is compared with them, a panel each, the own ones on the diagonal.

    Args:
        matrices: {what is compared: (clips, clips)}, similarities from -1 to 1.
        names: caption of each clip.
        path: of the PNG to write.
    """
    figure = Figure(figsize=(_SIDE * len(matrices) + 1.6, _SIDE + 0.6), layout="compressed")
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for number, (axes, (title, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
        image = axes.imshow(matrix.float().cpu().numpy(), vmin=-1, vmax=1, cmap="RdBu_r")
        axes.set(title=f"clips and {title}", xlabel=title, xticks=range(len(names)), yticks=range(len(names)))
        axes.set_xticklabels(names, rotation=45, ha="right", fontsize=7)
        axes.set_yticklabels(names if number == 0 else [], fontsize=7)
    figure.colorbar(image, ax=panels, shrink=0.8, label="cosine similarity")
    save_figure(figure, path)
