"""Segmentation of objects through a video from the mask of its first frame, and DAVIS's measures of it.

Perazzi et al., CVPR 2016; davisvideochallenge/davis2017-evaluation (davis2017/metrics.py, evaluation.py, utils.py).
Features as in Alxead/SFC (code/test_vos.py, code/data/vos.py).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from torchvision.transforms.v2.functional import pil_to_tensor

from .features import evaluating, token_map
from .propagation import LabelPropagation, fuse_features

BACKGROUND, IGNORED = 0, 255  # values of masks; ignored pixels count for nothing
BOUNDARY = 0.008  # distance of boundaries that match, as a fraction of the image's diagonal


@dataclass(frozen=True)
class DenseEncoder:
    """An encoder and how frames are prepared for it.

    Attributes:
        model: image encoder, set to evaluation mode meanwhile.
        mean, std: of the channels, as the image processor has them.
        stage: whose output is the feature map: stage n of an encoder in stages, layer n of others; None for the last.
    """

    model: Any
    mean: Sequence[float]
    std: Sequence[float]
    stage: int | None = None

    def __call__(self, frame: Image.Image) -> Tensor:
        """Return the feature map of a frame, (channels, rows, columns), of length 1 over the channels.

        The frame keeps its size but for a ViT, whose patches must fill it: it is resized to the nearest whole number
        of patches.
        """
        pixels = pil_to_tensor(frame.convert("RGB"))[None].to(self.model.device).float() / 255
        mean, std = (torch.tensor(values, device=pixels.device).view(-1, 1, 1) for values in (self.mean, self.std))
        pixels = fill_patches((pixels - mean) / std, self.model.config)
        with evaluating(self.model), torch.no_grad():
            outputs = self.model(pixels.to(self.model.dtype), output_hidden_states=True, return_dict=True)
        return normalize(feature_map(outputs, self.model.config, pixels.shape[-2:], self.stage).float()[0], dim=0)


def fill_patches(pixels: Tensor, config) -> Tensor:
    """Return images resized (bilinear) to a whole number of patches, where the model is a ViT."""
    patch_size = getattr(config, "patch_size", None)
    if patch_size is None or hasattr(config, "depths"):
        return pixels
    sides = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    size = [max(round(side / patch), 1) * patch for side, patch in zip(pixels.shape[-2:], sides, strict=True)]
    return pixels if size == list(pixels.shape[-2:]) else interpolate(pixels, size=size, mode="bilinear")


def feature_map(outputs, config, size: Sequence[int], stage: int | None = None) -> Tensor:
    """Return the map (batch, channels, rows, columns) of a stage or layer from a model's output with hidden states.

    Args:
        size: (height, width) of the images.
        stage: see `DenseEncoder`.

    Raises:
        ValueError: the model has no such stage.
    """
    states = outputs.hidden_states
    last = len(states) - 1
    if stage is not None and not 1 <= stage <= last:
        raise ValueError(f"the encoder has stages or layers 1 to {last}, got stage={stage}")
    if states[-1].ndim == 4:
        return states[last if stage is None else stage]
    tokens = outputs.last_hidden_state if stage is None else states[stage]
    return token_map(tokens, config, size)


def segment_video(
    frames: Sequence[Image.Image],
    mask: np.ndarray,
    encoders: Sequence[DenseEncoder],
    propagation: LabelPropagation,
    fine_weight: float = 1.75,
) -> np.ndarray:
    """Return the masks (frames, height, width) of uint8 of a video from the mask of its first frame.

    Example: `segment_video(frames, mask, [DenseEncoder(model, mean, std)], LabelPropagation())`.

    Args:
        mask: (height, width), 0 for the background, the number of each object, 255 for pixels without a label.
        encoders: one, or the fine-grained and the semantic one, whose features are fused.
        fine_weight: weight of the fine-grained features.

    Raises:
        ValueError: the mask has no object or another size than the frames, or the encoders have other strides.
    """
    size = (frames[0].height, frames[0].width)
    if mask.shape != size:
        raise ValueError(f"the mask of the first frame must be of the frame's size {size}, got {mask.shape}")
    objects = [number for number in np.unique(mask).tolist() if number not in (BACKGROUND, IGNORED)]
    if not objects:
        raise ValueError("the mask of the first frame has no object: there is nothing to follow")
    classes = np.array([BACKGROUND, *objects], np.uint8)
    onehot = torch.from_numpy(mask == classes[:, None, None]).float()
    soft = propagate_labels(
        frames,
        lambda grid: interpolate(onehot[None], size=grid, mode="bilinear")[0],
        encoders,
        propagation,
        fine_weight,
    )
    predicted = [mask.astype(np.uint8)]
    for frame in soft[1:]:
        chosen = interpolate(frame[None], size=size, mode="bilinear")[0].argmax(dim=0).cpu().numpy()
        predicted.append(classes[chosen])
    return np.stack(predicted)


def propagate_labels(
    frames: Sequence[Image.Image],
    labels_on: Callable[[tuple[int, int]], Tensor],
    encoders: Sequence[DenseEncoder],
    propagation: LabelPropagation,
    fine_weight: float,
) -> Tensor:
    """Return the soft labels (frames, classes, rows, columns) of a video; other arguments as in `segment_video`.

    Args:
        labels_on: function from the grid (rows, columns) of the features to the labels of the first frame on it.
    """
    features = frame_features(frames, encoders, fine_weight)
    first = next(features)
    labels = labels_on(tuple(first.shape[1:])).to(first.device)
    return propagation(chain([first], features), labels)


def frame_features(
    frames: Sequence[Image.Image], encoders: Sequence[DenseEncoder], fine_weight: float
) -> Iterator[Tensor]:
    """Yield the features of each frame (channels, rows, columns), fused where there are two encoders."""
    for frame in frames:
        maps = [encoder(frame) for encoder in encoders]
        yield maps[0] if len(maps) == 1 else fuse_features(*(one[None] for one in maps), weight=fine_weight)[0]


def region_similarity(predicted: np.ndarray, truth: np.ndarray, ignored: np.ndarray | None = None) -> float:
    """Return J: the IoU of two masks (height, width) of bool, 1 where both are empty."""
    counted = True if ignored is None else ~ignored
    union = ((predicted | truth) & counted).sum()
    return float((predicted & truth & counted).sum() / union) if union else 1.0


def boundary_accuracy(
    predicted: np.ndarray, truth: np.ndarray, ignored: np.ndarray | None = None, tolerance: float = BOUNDARY
) -> float:
    """Return F: the harmonic mean of precision and recall of the pixels on the boundaries of two masks.

    Args:
        predicted, truth: (height, width) of bool.
        tolerance: distance of boundary pixels that match, in pixels or, below 1, as a fraction of the diagonal.
    """
    counted = True if ignored is None else ~ignored
    reach = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*truth.shape))
    outlines = [boundary(mask & counted) for mask in (predicted, truth)]
    found, wanted = (int(outline.sum()) for outline in outlines)
    if not found or not wanted:
        return float(found == wanted)
    precision, recall = (
        (outline & (distance_transform_edt(~other) <= reach)).sum() / outline.sum()  # pyright: ignore[reportOperatorIssue]
        for outline, other in (outlines, reversed(outlines))
    )
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask (height, width) of bool that differ from the next to the right, below or both."""
    outline = np.zeros_like(mask)
    outline[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    outline[:-1] |= mask[:-1] ^ mask[1:]
    outline[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return outline


def statistics(values: np.ndarray) -> dict[str, float]:
    """Return mean, recall (fraction above 0.5) and decay (first quarter minus last) of a measure (frames,)."""
    bounds = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[bounds[0] : bounds[1] + 1], values[bounds[3] : bounds[4] + 1]
    return {
        "mean": float(values.mean()),
        "recall": float((values > 0.5).mean()),
        "decay": float(first.mean() - last.mean()),
    }


def measure_objects(predicted: np.ndarray, truth: np.ndarray) -> list[dict[str, Any]]:
    """Return J and F of each object of a video, as {"object", "J": `statistics`, "F": `statistics`}.

    As in DAVIS, the first and the last frame do not count; the objects are numbered 1 to the largest of the truth.

    Args:
        predicted, truth: masks (frames, height, width); pixels of 255 in the truth are ignored.

    Raises:
        ValueError: the shapes differ, or the video has less than three frames.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks must be of the true ones' shape {truth.shape}, got {predicted.shape}")
    if len(truth) < 3:
        raise ValueError(f"the first and the last frame are not measured: give three or more, got {len(truth)}")
    predicted, truth = predicted[1:-1], truth[1:-1]
    ignored = truth == IGNORED
    largest = truth[~ignored].max(initial=0)
    measured = []
    for number in range(1, largest + 1):
        triples = [(p == number, t == number, i) for p, t, i in zip(predicted, truth, ignored, strict=True)]
        region, outline = (
            np.array([measure(*triple) for triple in triples]) for measure in (region_similarity, boundary_accuracy)
        )
        measured.append({"object": number, "J": statistics(region), "F": statistics(outline)})
    return measured


def summary(objects: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return DAVIS's table, the means over the objects of all videos: J&F, and mean, recall and decay of J and F."""
    if not objects:
        raise ValueError("expected the measures of at least one object, got none")
    means = {
        f"{measure}_{name}": float(np.mean([one[measure][name] for one in objects]))
        for measure in ("J", "F")
        for name in ("mean", "recall", "decay")
    }
    return {"J&F": (means["J_mean"] + means["F_mean"]) / 2, **means}
