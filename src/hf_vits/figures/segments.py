"""Pictures of segmentations beside the truth."""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

from hf_vits.evaluation.mean_iou import IGNORED, MeanIoU
from hf_vits.pretraining.method import Column

from .features import draw_columns


def draw_segments(
    pixel_values: Tensor, truth: Tensor, predictions: dict[str, np.ndarray], processor, path: Path
) -> None:
    """Draw images, their masks, and segmentations of them, classes in the same colours.

    Args:
        pixel_values: (images, channels, height, width), as the image processor made them.
        truth: (images, rows, columns), classes; 255 is drawn white, class 0 black.
        predictions: {title: classes (images, rows, columns)}.
        path: of the PNG to write.
    """
    maps = {"truth": truth.cpu().numpy(), **predictions}
    columns = [Column(title, torch.from_numpy(colours(labels)), is_map=True) for title, labels in maps.items()]
    draw_columns([Column("image", pixel_values), *columns], processor, path)


def colours(labels: np.ndarray) -> np.ndarray:
    """Return a colour (..., 3) from 0 to 1 for each label: black for 0, white for 255, else one of 20 that repeat."""
    palette = np.array(matplotlib.colormaps["tab20"].colors)  # pyright: ignore[reportAttributeAccessIssue]
    chosen = palette[(labels.astype(int) - 1) % len(palette)]
    chosen[labels == 0] = 0.0
    chosen[labels == IGNORED] = 1.0
    return chosen


def as_classes(predictions: np.ndarray, measured: MeanIoU) -> np.ndarray:
    """Return the class of each cluster in predictions, as they were matched."""
    return predictions if measured.classes is None else measured.classes[predictions]
