"""Pictures of propagated masks: contact sheets of frames under coloured masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from .grid import save_figure
from .videos import contact_sheet, shrink

_SHOWN = 8  # frames of each video
_OPACITY = 0.55
_TITLE, _WIDTH = 0.3, 12  # inches


def overlay(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return frames (frames, height, width, 3) of uint8 under the colours of their masks; 0 and 255 have no colour."""
    colours = np.rint(np.array(colormaps["tab10"].colors) * 255)  # pyright: ignore[reportAttributeAccessIssue]
    painted = (1 - _OPACITY) * frames + _OPACITY * colours[(masks.astype(int) - 1) % len(colours)]
    shown = ((masks > 0) & (masks < 255))[..., None]
    return np.where(shown, painted, frames).round().astype(np.uint8)


def draw_propagated(videos: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw frames of videos with their true masks above the propagated ones, evenly spaced in time.

    Args:
        videos: title, frames (frames, height, width, 3) of uint8, propagated and true masks (frames, height, width).
        path: of the PNG file.
    """
    sheets = []
    for title, frames, propagated, truth in videos:
        chosen = np.unique(np.linspace(0, len(frames) - 1, _SHOWN).astype(int))
        rows = [shrink(overlay(frames[chosen], masks[chosen])) for masks in (truth, propagated)]
        sheets.append((title, np.asarray(contact_sheet(np.concatenate(rows), len(chosen)))))
    heights = [_WIDTH * sheet.shape[0] / sheet.shape[1] for _, sheet in sheets]
    full = sum(heights) + _TITLE * len(sheets)
    figure, top = Figure(figsize=(_WIDTH, full)), full
    for (title, sheet), height in zip(sheets, heights, strict=True):
        top -= height + _TITLE
        axes = figure.add_axes((0, top / full, 1, height / full))
        axes.imshow(sheet, aspect="auto")
        axes.set_title(f"{title}: truth above, propagated below", fontsize=9, pad=3)
        axes.axis("off")
    save_figure(figure, path)
