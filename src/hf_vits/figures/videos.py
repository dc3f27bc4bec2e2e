"""Pictures of videos: contact sheets of frames, and classes over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from hf_vits.processing.video import VitsVideoProcessor

from .grid import save_figure

_GAP = 1  # pixels between the frames of a contact sheet
_GAP_LEVEL = 255
_LONGEST_SIDE = 160  # pixels of a frame on a contact sheet
_SHEET_COLUMNS = 8
_WIDTH = 12  # inches


@dataclass(frozen=True)
class WatchedVideo:
    """A classified video, to be drawn.

    Attributes:
        title: written above its part of the picture.
        frames, seconds: some frames (frames, height, width, 3) of uint8, and the time of each in seconds (frames,).
        windows: start and end (windows, 2) in seconds of the clips that were classified.
        class_names, probabilities: the most probable classes, and their probabilities (windows, classes); or the
            targets of a regression, and their numbers.
        measure: name of the values, "probability" or another one, whose range is not known.
    """

    title: str
    frames: np.ndarray
    seconds: np.ndarray
    windows: np.ndarray
    class_names: Sequence[str]
    probabilities: np.ndarray
    measure: str = "probability"


def contact_sheet(frames: np.ndarray, columns: int) -> Image.Image:
    """Return one image of frames (frames, height, width, 3) of uint8, side by side in rows."""
    rows = -(-len(frames) // columns)
    height, width = frames.shape[1] + _GAP, frames.shape[2] + _GAP
    sheet = np.full((rows * height - _GAP, columns * width - _GAP, 3), _GAP_LEVEL, np.uint8)
    for place, frame in enumerate(frames):
        top, left = place // columns * height, place % columns * width
        sheet[top : top + height - _GAP, left : left + width - _GAP] = frame
    return Image.fromarray(sheet)


def to_pictures(clip: Tensor, processor: VitsVideoProcessor) -> np.ndarray:
    """Return frames (frames, height, width, 3) of uint8 from a normalised clip (frames, channels, height, width)."""
    levels = clip.float().cpu()
    if processor.do_normalize:
        mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (processor.image_mean, processor.image_std))
        levels = levels * std + mean
    if processor.do_rescale:
        levels = levels / processor.rescale_factor
    pixels = levels.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    return pixels.expand(*pixels.shape[:3], 3).numpy()


def shrink(frames: np.ndarray) -> np.ndarray:
    """Return frames (frames, height, width, 3) reduced to the size that they have on a contact sheet."""
    height, width = frames.shape[1:3]
    scale = _LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return frames
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames])


def draw_watched(videos: Sequence[WatchedVideo], path: Path) -> None:
    """Draw each video's contact sheet, and below it its classes over time, or as bars if it is a single clip."""
    heights = [height for video in videos for height in (_sheet_height(video), _chart_height(video))]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.9 * len(videos)), layout="constrained")
    parts = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
    for video, sheet, chart in zip(videos, parts[::2], parts[1::2], strict=True):
        _draw_sheet(video, sheet)
        _draw_chart(video, chart)
    save_figure(figure, path)


def _sheet_height(video: WatchedVideo) -> float:
    """Return the height in inches of the contact sheet at full width."""
    rows = -(-len(video.frames) // _SHEET_COLUMNS)
    height, width = video.frames.shape[1:3]
    return rows * height / width * _WIDTH / _SHEET_COLUMNS


def _chart_height(video: WatchedVideo) -> float:
    return 2.2 if len(video.windows) > 1 else 0.5 + 0.22 * len(video.class_names)


def _draw_sheet(video: WatchedVideo, axes) -> None:
    axes.imshow(contact_sheet(video.frames, _SHEET_COLUMNS))
    axes.set_title(video.title, loc="left", fontsize=11)
    axes.axis("off")
    height, width = (side + _GAP for side in video.frames.shape[1:3])
    for place, second in enumerate(video.seconds):
        left, top = place % _SHEET_COLUMNS * width, place // _SHEET_COLUMNS * height
        box = {"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0}
        axes.text(
            left + 0.03 * width, top + 0.04 * height, f"{second:.1f} s", color="white", fontsize=7, va="top", bbox=box
        )


def _draw_chart(video: WatchedVideo, axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    if len(video.windows) > 1:
        centres = video.windows.mean(axis=1)
        for name, column in zip(video.class_names, video.probabilities.T, strict=True):
            axes.plot(centres, column, label=name, marker="." if len(centres) < 60 else None)
        axes.set(xlabel="seconds", ylabel=video.measure, xlim=(video.windows.min(), video.windows.max()))
        if video.measure == "probability":
            axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    else:
        axes.barh(video.class_names, video.probabilities[0], color="#4c72b0")
        axes.invert_yaxis()
        axes.set_xlabel(video.measure)
        if video.measure == "probability":
            axes.set_xlim(0, 1)
