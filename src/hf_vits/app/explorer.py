"""What the page of `hf-vits demo` shows of a model, computed from files; Gradio is not needed here."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from transformers import BaseImageProcessor, BaseVideoProcessor, PreTrainedModel, SequenceFeatureExtractor

from hf_vits.analysis.attention import rollout
from hf_vits.analysis.descriptors import (
    Descriptors,
    cosine_similarity,
    descriptors,
    find_patch_projection,
    strided,
)
from hf_vits.analysis.robustness.occlusion import pixel_mask
from hf_vits.analysis.taps import count_prefix_tokens, find_blocks, record, tapped, without_masking
from hf_vits.configuration import pair
from hf_vits.data.images import image_mode
from hf_vits.data.label_groups import class_probabilities, most_probable, predicted_labels
from hf_vits.figures.audio import add_spectrogram
from hf_vits.figures.features import denormalized
from hf_vits.figures.grid import figure_image
from hf_vits.figures.heat import enlarged, heat_over, marked, without_cells
from hf_vits.figures.videos import contact_sheet, shrink, to_pictures
from hf_vits.processing.decoding import VideoReader
from hf_vits.processing.opening import open_image
from hf_vits.processing.waveform import load_audio
from hf_vits.processing.windows import overlapping, slide, view, window_length, window_logits
from hf_vits.training.examples.clips import check_processor

FACETS = ("key", "query", "value", "token")
SHOWN_CLASSES = 5
_ALL = 2**31  # classes
# Most cells of a side that are wide enough to be clicked, and how many there are at first, about.
_MOST_CELLS, _FIRST_CELLS = 16, 8
_BATCH = 4  # windows of a clip or recording at a time
_SHEET_COLUMNS, _FRAME_SIDE = 4, 160
CLASS_TOKEN, ALL_PATCHES, CLICKED = "class token", "all patches", "clicked place"

Point = tuple[float, float]  # x and y in fractions of width and height
Scores = dict[str, float]


@dataclass
class View:
    """An input as the model sees it.

    Attributes:
        pixel_values: (1, [frames,] channels, height, width), or None for a recording.
        image: (height, width, 3) of uint8; of a clip the frame in the middle.
        picture: what the page shows of the input.
    """

    pixel_values: Tensor | None
    image: np.ndarray | None
    picture: Image.Image


def one_at_a_time(method: Callable) -> Callable:
    """Let one thread at a time run a method, without gradients: taps and strides change the model meanwhile."""

    @wraps(method)
    def locked(self, *args, **kwargs):
        with self.lock, torch.no_grad():
            return method(self, *args, **kwargs)

    return locked


def kind_of(model: PreTrainedModel, processor: Any) -> str:
    """Return "video", "audio" or "image"; TypeError or ValueError for processors and models of other kinds."""
    if isinstance(processor, BaseVideoProcessor):
        check_processor(processor)
        return "video"
    if isinstance(processor, SequenceFeatureExtractor) and "Classification" in type(model).__name__:
        return "audio"
    if isinstance(processor, BaseImageProcessor):
        return "image"
    raise TypeError(
        f"expected a model with an image processor, a video processor, or for classes of sound a feature extractor; "
        f"got {type(model).__name__} with {type(processor).__name__}"
    )


def square_cells(count: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the (rows, columns) of `count` patches whose ratio is exactly the image's, None if there is none."""
    rows = math.isqrt(count * size[0] // size[1])
    if rows and count % rows == 0 and rows * size[1] == count // rows * size[0]:
        return rows, count // rows
    return None


class Explorer:
    """A model with its processor, and what can be looked at.

    Attributes:
        kind: "image", "video" or "audio".
        missing: {part of the page: why the model does not have it}.
        heads: {block: number of heads} of the blocks whose attention can be drawn.
        has_class_token: whether the class token's attention can be drawn.
        has_rollout: whether attention can be rolled out through all blocks.
        num_blocks: of all kinds, where there are descriptors.
        facets: of `FACETS`, those that the blocks have.
        finer: factors by which the grid of descriptors can be finer than the patches.
        cells: numbers of cells (rows, columns) into which an image can be cut to hide parts.
    """

    def __init__(self, model: PreTrainedModel, processor: Any):
        given: Any = model
        exported = given.export() if hasattr(model, "export") else given
        self.model: Any = exported.to(model.device, model.dtype).eval()
        self.processor = processor
        self.kind = kind_of(self.model, processor)
        self.lock = RLock()
        self.missing: dict[str, str] = {}
        self.heads: dict[int, int] = {}
        self.facets: list[str] = []
        self.finer, self.cells = [1], []
        self.num_blocks, self.has_class_token, self.has_rollout = 0, False, False
        self.described = lru_cache(maxsize=8)(self._described)
        self._look()
        if len(self.missing) == 4:
            reasons = "; ".join(dict.fromkeys(self.missing.values()))
            raise ValueError(f"there is nothing to show of {type(model).__name__}: {reasons}")

    # What fits

    @one_at_a_time
    def _look(self) -> None:
        """Find out by a forward pass on a grey image what can be shown."""
        name = type(self.model).__name__
        self.has_classes = "Classification" in name
        if not self.has_classes:
            self.missing["Classes"] = self.missing["Occlusion"] = f"{name} has no classifier"
        if self.kind == "audio":
            for part in ("Attention", "Similar regions", "Occlusion"):
                self.missing[part] = "it is drawn over images, and this model hears recordings"
            return
        if self.kind == "video":
            self.missing["Similar regions"] = "descriptors are compared between images, and this model sees clips"
            frames = self.processor.num_frames
            grey = np.full((frames, 64, 64, 3), 128, np.uint8)
            (clip,) = self.processor.views(grey, do_sample_frames=False, num_clips=1, num_crops=1)
            pixels = clip[None].to(self.model.device, self.model.dtype)
        else:
            pixels = self._pixels(Image.new(image_mode(self.model), (64, 64), "grey"))
            self._look_at_descriptors(pixels)
        self._look_at_attention(pixels)
        height, width = pixels.shape[-2:]
        if self.has_classes:
            ratio = math.gcd(height, width)
            unit = (height // ratio, width // ratio)
            fitting = [n for n in range(1, ratio + 1) if ratio % n == 0 and 2 <= n * min(unit) <= _MOST_CELLS]
            self.cells = [(n * unit[0], n * unit[1]) for n in fitting]
            if not self.cells:
                self.missing["Occlusion"] = f"{height} x {width} pixels cannot be cut into 2 to {_MOST_CELLS} cells"

    def _look_at_attention(self, pixels: Tensor) -> None:
        try:
            with tapped(self.model, ["attentions"]) as taps, without_masking(self.model, pixels) as extra:
                self.model(pixels, **extra)
            found = taps.kept["attentions"]
            if not found:
                taps.check(self.model)
        except ValueError as error:
            self.missing["Attention"] = str(error)
            return
        for layer, attention in found.items():
            if self._key_grid(attention, pixels):
                self.heads[layer] = attention.shape[1]
        if not self.heads:
            name = type(self.model).__name__
            self.missing["Attention"] = {
                "image": f"the attention of {name} is within windows, or its tokens are no grid over the image",
                "video": f"the tokens of {name} are not tubelets of one size, so their places are not known",
            }[self.kind]
            return
        grids = [self._key_grid(attention, pixels) for attention in found.values()]
        same = {attention.shape[-2:] for attention in found.values()}
        is_square = len(same) == 1 and len(set(same.pop())) == 1
        self.has_rollout = is_square and None not in grids and len(found) == len(find_blocks(self.model))
        self.has_class_token = any(grid and grid[0] for grid in grids)

    def _look_at_descriptors(self, pixels: Tensor) -> None:
        reason = ""
        for facet in FACETS:
            try:
                descriptors(self.model, pixels, -1, facet)
                self.facets.append(facet)
            except ValueError as error:
                reason = reason or str(error)
        if not self.facets:
            self.missing["Similar regions"] = reason
            return
        self.num_blocks = len(find_blocks(self.model))
        patch, stride = self._patch()
        for factor in (2, 4):
            try:
                with strided(self.model, pixels.shape[-2:], (patch[0] // factor, patch[1] // factor)):
                    if stride == patch and min(patch) // factor > 1:
                        self.finer.append(factor)
            except ValueError:
                break

    def _patch(self) -> tuple[tuple[int, int], tuple[int, int]]:
        projection = find_patch_projection(self.model)
        return pair(projection.kernel_size), pair(projection.stride)

    def _key_grid(self, attention: Tensor, pixels: Tensor) -> tuple[int, int, tuple[int, int]] | None:
        """Return (prefix tokens, frames, (rows, columns)) of the keys of attention (batch, heads, queries, keys).

        None where they do not cover one image or clip.
        """
        keys, size = attention.shape[-1], (pixels.shape[-2], pixels.shape[-1])
        for prefix in dict.fromkeys((count_prefix_tokens(self.model), 0)):
            if self.kind == "image":
                grid = square_cells(keys - prefix, size) if len(attention) == 1 and keys > prefix else None
                if grid:
                    return prefix, 1, grid
                continue
            tubelet = getattr(self.model.config, "tubelet_size", None)
            if tubelet is None:
                return None
            grid = (size[0] // tubelet[1], size[1] // tubelet[2])
            frames, rest = divmod(keys - prefix, grid[0] * grid[1])
            if not rest and frames and (frames == 1 or len(attention) == 1):
                return prefix, frames * len(attention), grid
        return None

    @property
    def first_cells(self) -> int:
        """Return which of `cells` is chosen at first."""
        return min(range(len(self.cells)), key=lambda index: abs(max(self.cells[index]) - _FIRST_CELLS))

    # Inputs

    def _pixels(self, image: Image.Image) -> Tensor:
        return self.processor(image, return_tensors="pt")["pixel_values"].to(self.model.device, self.model.dtype)

    def look_at(self, path: str | Path) -> View:
        """Return the input in a file as the model sees it. Errors as of the readers of images, videos and sound."""
        if self.kind == "image":
            pixels = self._pixels(open_image(path, image_mode(self.model)))
            levels = (denormalized(pixels, self.processor)[0] * 255).round().astype(np.uint8)
            image = levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)
            return View(pixels, image, enlarged(Image.fromarray(image)))
        if self.kind == "video":
            with VideoReader(path) as video:
                windows = slide(video.info, self.processor)
                clip = view(self.processor, video, windows[len(windows) // 2].indices)
            frames = to_pictures(clip, self.processor)
            pixels = clip[None].to(self.model.device, self.model.dtype)
            return View(pixels, frames[len(frames) // 2], contact_sheet(self._large(frames), _SHEET_COLUMNS))
        waveform = load_audio(path, self.processor.sampling_rate)
        figure = Figure(figsize=(9, 3), layout="constrained")
        axes, rate = figure.subplots(), self.processor.sampling_rate
        add_spectrogram(axes, waveform, rate)
        axes.set_title(f"{len(waveform) / rate:.1f} s at {rate / 1000:g} kHz", loc="right", fontsize=10)
        return View(None, None, figure_image(figure))

    def _large(self, frames: np.ndarray) -> np.ndarray:
        """Return frames of the size that they have on a contact sheet, small ones enlarged."""
        return shrink(np.stack([np.asarray(enlarged(Image.fromarray(frame), _FRAME_SIDE)) for frame in frames]))

    # Classes

    @one_at_a_time
    def probabilities(self, path: str | Path) -> Tensor:
        """Return the class probabilities (classes,) of a file; of a long clip or recording the mean over windows."""
        if self.kind == "image":
            return self._probabilities(self.look_at(path).pixel_values)[0]
        if self.kind == "video":
            with VideoReader(path) as video:
                windows = slide(video.info, self.processor)
                parts = []
                for start in range(0, len(windows), _BATCH):
                    clips = [view(self.processor, video, one.indices) for one in windows[start : start + _BATCH]]
                    parts.append(self._probabilities(torch.stack(clips).to(self.model.device, self.model.dtype)))
            return torch.cat(parts).mean(dim=0)
        waveform = load_audio(path, self.processor.sampling_rate)
        windows = overlapping(len(waveform), window_length(None, self.processor))
        logits = []
        for start in range(0, len(windows), _BATCH):
            clips = [waveform[one.start : one.end] for one in windows[start : start + _BATCH]]
            logits += window_logits(self.model, self.processor, clips)
        return class_probabilities(self.model.config, torch.stack(logits)).mean(dim=0)

    def _probabilities(self, pixels: Tensor) -> Tensor:
        return class_probabilities(self.model.config, self.model(pixels).logits).cpu()

    def best(self, probabilities: Tensor, count: int = SHOWN_CLASSES) -> Scores:
        """Return {label: score}, the highest first; of classes with one name the highest score."""
        scores: Scores = {}
        for row in most_probable(self.model.config, probabilities, count):
            scores.setdefault(row["label"], row["score"])
        return scores

    def predicted(self, probabilities: Tensor) -> list[str] | None:
        """Return the labels above their thresholds; None for a model that predicts one class."""
        return predicted_labels(self.model.config, probabilities)

    # Attention

    @one_at_a_time
    def draw_attention(
        self, path: str | Path, block: int | None, head: int | None, queries: str, point: Point | None = None
    ) -> Image.Image:
        """Draw what is attended to over the image, or over each frame of a clip.

        Args:
            block: index of the block; None for the rollout through all blocks.
            head: index of the head; None for the mean.
            queries: whose attention, `CLASS_TOKEN`, `ALL_PATCHES` or `CLICKED`.
            point: the clicked place of an image, for `CLICKED`.

        Raises:
            ValueError: no place was clicked; a block without class token.
        """
        seen = self.look_at(path)
        assert seen.pixel_values is not None
        assert seen.image is not None
        wanted = None if block is None else [block]
        found = record(self.model, seen.pixel_values, "attentions", wanted).attentions
        attention = rollout(torch.stack(found))[-1][:, None] if block is None else found[0]
        covered = self._key_grid(attention, seen.pixel_values)
        if covered is None:
            raise ValueError(
                f"the tokens of block {(block or 0) + 1} are no grid over this {self.kind}: choose another"
            )
        prefix, frames, grid = covered
        maps = attention[:, head] if head is not None else attention.mean(dim=1)
        if queries == CLASS_TOKEN:
            if not prefix:
                raise ValueError(f"block {(block or 0) + 1} has no class token: choose {ALL_PATCHES!r}")
            weights = maps[:, 0]
        elif queries == ALL_PATCHES:
            weights = maps[:, prefix:].mean(dim=1)
        else:
            if point is None:
                raise ValueError("click a place in the picture whose attention is to be shown")
            asking = square_cells(maps.shape[1] - prefix, (seen.pixel_values.shape[-2], seen.pixel_values.shape[-1]))
            if asking is None:
                raise ValueError("the tokens that ask in this block are no grid over the image: choose another block")
            row, column = cell_at(point, asking)
            weights = maps[:, prefix + row * asking[1] + column]
        heat = weights[:, prefix:].unflatten(-1, (-1, *grid)).flatten(0, 1)
        if self.kind == "image":
            picture = heat_over(np.asarray(seen.picture), heat[0])
            return marked(picture, [point], "white") if queries == CLICKED and point else picture
        clip = self._large(to_pictures(seen.pixel_values[0], self.processor))
        shown = np.linspace(0, len(clip) - 1, 2 * frames + 1).round().astype(int)[1::2]
        highest = float(heat.max())
        pictures = [heat_over(clip[frame], each, highest=highest) for frame, each in zip(shown, heat, strict=True)]
        return contact_sheet(np.stack([np.asarray(one) for one in pictures]), _SHEET_COLUMNS)

    # Descriptors

    def _described(self, path: str, modified: int, layer: int, facet: str, finer: int, bins: bool) -> Descriptors:
        pixels = self.look_at(path).pixel_values
        assert pixels is not None
        _, stride = self._patch()
        found = descriptors(self.model, pixels, layer, facet, (stride[0] // finer, stride[1] // finer), bins)
        return Descriptors(found.values.float(), found.grid)

    @one_at_a_time
    def draw_similar(
        self,
        paths: Sequence[str | Path],
        point: Point,
        layer: int,
        facet: str = "key",
        finer: int = 1,
        bins: bool = False,
    ) -> tuple[list[Image.Image], list[float]]:
        """Draw how similar all places of images are to one place of the first; mark it and the best matches.

        The match within the first image is the best one outside the place and its neighbours.

        Args:
            paths: of the first image, and of a second one if there is one.
            layer, facet: see `analysis.descriptors.descriptors`.
            finer: factor by which the grid is finer than the patches.
            bins: whether descriptors include their surroundings.

        Returns:
            A picture per image, and the cosine of each image's best match.
        """
        arguments = (layer, facet, finer, bins)
        described = [self.described(str(path), Path(path).stat().st_mtime_ns, *arguments) for path in paths]
        patch, stride = self._patch()
        step = (stride[0] // finer, stride[1] // finer)
        rows, columns = described[0].grid
        size = tuple((count - 1) * s + p for count, s, p in zip((rows, columns), step, patch, strict=True))
        at = [
            min(max(round((place * side - p / 2) / s), 0), count - 1)
            for place, side, p, s, count in zip(point[::-1], size, patch, step, (rows, columns), strict=True)
        ]
        chosen = described[0].values[:, at[0] * columns + at[1]][:, None]
        pictures, best = [], []
        for number, (path, each) in enumerate(zip(paths, described, strict=True)):
            similar = cosine_similarity(chosen, each.values)[0, 0].unflatten(0, each.grid).cpu()
            candidates = similar.clone()
            if number == 0:
                near = [slice(max(place - finer, 0), place + finer + 1) for place in at]
                candidates[near[0], near[1]] = -torch.inf
            # The place itself has cosine 1, beside which all others of its image would be dark.
            highest = float(candidates.max()) if candidates.isfinite().any() else 1.0
            match = divmod(int(candidates.argmax()), each.grid[1])
            shown = self.look_at(path)
            assert shown.image is not None
            height, width = shown.image.shape[:2]
            factor = shown.picture.height // height
            picture = heat_over(
                np.asarray(shown.picture), similar.clamp(max=highest), (patch[0] * factor, patch[1] * factor)
            )
            if number == 0:
                picture = marked(picture, [point], "white")
            if torch.isfinite(candidates.max()):
                place = [m * s + p / 2 for m, s, p in zip(match, step, patch, strict=True)]
                picture = marked(picture, [(place[1] / width, place[0] / height)], "lime")
            pictures.append(picture)
            best.append(float(candidates.max()))
        return pictures, best

    # Occlusion

    @one_at_a_time
    def occluded(
        self, path: str | Path, cells: tuple[int, int], hidden: Sequence[int]
    ) -> tuple[Image.Image, list[tuple[str, float, float]]]:
        """Return the image without its hidden cells, and (class, score before, score now) of the best classes.

        Hidden cells are black, as in `analysis.robustness.occlusion`; of a clip they are hidden in all frames.

        Args:
            cells: (rows, columns) into which the image is cut.
            hidden: indices of cells, row by row.
        """
        seen = self.look_at(path)
        assert seen.pixel_values is not None
        assert seen.image is not None
        kept = torch.ones(cells[0] * cells[1], dtype=torch.bool)
        kept[list(hidden)] = False
        kept = kept.view(cells)
        pixels = seen.pixel_values
        visible = pixel_mask(pixels.flatten(0, -4), kept).to(pixels.device)
        both = torch.cat([pixels, torch.where(visible, pixels, self._black().to(pixels))])
        before, now = (self.best(one, _ALL) for one in self._probabilities(both))
        names = dict.fromkeys([*list(before)[:SHOWN_CLASSES], *list(now)[:SHOWN_CLASSES]])
        return without_cells(seen.image, kept), [(name, before[name], now[name]) for name in names]

    def _black(self) -> Tensor:
        """Return the value of black pixels after the processor, (channels, 1, 1)."""
        if not self.processor.do_normalize:
            return torch.zeros(1, 1, 1)
        mean, std = (
            torch.as_tensor(value).view(-1, 1, 1) for value in (self.processor.image_mean, self.processor.image_std)
        )
        return -mean / std


def cell_at(point: Point, cells: tuple[int, int]) -> tuple[int, int]:
    """Return the (row, column) of the cell that holds a point."""
    column, row = (min(int(place * count), count - 1) for place, count in zip(point, cells[::-1], strict=True))
    return row, column
