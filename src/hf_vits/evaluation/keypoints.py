"""Tracking of keypoints through a video by label propagation, and the percentage of correct keypoints (PCK).

ajabri/videowalk (code/utils/test_utils.py, `process_pose`; code/eval/eval_pck.py), with which SFC measures JHMDB.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .propagation import LabelPropagation
from .video_segmentation import DenseEncoder, propagate_labels

PERSON = 0.6  # diagonal of the box around a person's keypoints times this is the person's size


def track_keypoints(
    frames: Sequence[Image.Image],
    keypoints: np.ndarray,
    encoders: Sequence[DenseEncoder],
    propagation: LabelPropagation,
    fine_weight: float = 1.75,
) -> np.ndarray:
    """Return the keypoints (frames, keypoints, 2), x and y in pixels, of a video from those of its first frame.

    Args:
        keypoints: (keypoints, 2), negative where a keypoint is not visible.
        encoders, propagation, fine_weight: as in `segment_video`.

    Raises:
        ValueError: no keypoint lies in the first frame.
    """
    width, height = frames[0].size
    inside = (keypoints >= 0).all(axis=1) & (keypoints[:, 0] < width) & (keypoints[:, 1] < height)
    if not inside.any():
        raise ValueError("no keypoint lies in the first frame: there is nothing to follow")
    first = torch.from_numpy(keypoints).float()
    soft = propagate_labels(
        frames,
        lambda grid: keypoint_labels(first, grid, (height / grid[0], width / grid[1])),
        encoders,
        propagation,
        fine_weight,
    )
    found = locate(soft, (height / soft.shape[2], width / soft.shape[3])).cpu().numpy()
    found[0] = np.where(inside[:, None], keypoints, -1)
    return found


def keypoint_labels(keypoints: Tensor, grid: tuple[int, int], stride: tuple[float, float]) -> Tensor:
    """Return one-hot labels (1 + keypoints, rows, columns) of the first frame; class 0 is the background.

    Args:
        keypoints: (keypoints, 2), x and y in pixels; negative where a keypoint is not visible.
        stride: (height, width) of a cell in pixels.
    """
    labels = torch.zeros(len(keypoints) + 1, *grid)
    for number, (x, y) in enumerate(keypoints.tolist(), start=1):
        row, column = int(y // stride[0]), int(x // stride[1])
        if x >= 0 and y >= 0 and row < grid[0] and column < grid[1]:
            labels[number, row, column] = 1
    labels[0] = (labels[1:].sum(dim=0) == 0).float()
    return labels


def locate(labels: Tensor, stride: tuple[float, float], top: int = 3) -> Tensor:
    """Return the keypoints (frames, keypoints, 2), x and y in pixels, of soft labels; -1 where there is none.

    A keypoint lies at the mean of the centres of its `top` cells, weighted by their labels.

    Args:
        labels: (frames, 1 + keypoints, rows, columns), as `LabelPropagation` returns them.
    """
    heat = labels[:, 1:].flatten(2)
    values, cells = heat.topk(min(top, heat.shape[2]), dim=2)
    weights = values / values.sum(dim=2, keepdim=True)
    columns = labels.shape[3]
    x = ((cells % columns + 0.5) * stride[1] * weights).sum(dim=2)
    y = ((cells // columns + 0.5) * stride[0] * weights).sum(dim=2)
    found = torch.stack([x, y], dim=2)
    return found.masked_fill((heat.sum(dim=2) == 0)[..., None], -1)


def correct_keypoints(
    predicted: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    thresholds: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5),
) -> dict[float, float]:
    """Return PCK, from 0 to 1, by threshold: the mean over keypoints of the fraction that is near enough.

    A keypoint is correct at a distance of at most the threshold times the person's size. The first frame, which is
    given, does not count, nor do keypoints that a prediction lacks.

    Args:
        predicted, truth: (frames, keypoints, 2) of each video, x and y in pixels.

    Raises:
        ValueError: shapes differ, or a keypoint is in no video.
    """
    distances: list[list[float]] = [[] for _ in range(truth[0].shape[1])]
    for ours, theirs in zip(predicted, truth, strict=True):
        if ours.shape != theirs.shape:
            raise ValueError(f"keypoints must be of the true ones' shape {theirs.shape}, got {ours.shape}")
        for frame in range(1, len(theirs)):
            visible = ours[frame, :, 0] >= 0
            if not visible.any():
                continue
            places = theirs[frame][visible]
            size = PERSON * np.linalg.norm(places.max(axis=0) - places.min(axis=0))
            for number in np.flatnonzero(visible):
                distance = np.linalg.norm(ours[frame, number] - theirs[frame, number])
                distances[number].append(distance / size if size else np.inf)
    if empty := [number for number, found in enumerate(distances) if not found]:
        raise ValueError(f"keypoint {empty[0]} is visible in no frame of any video: it cannot be measured")
    return {
        threshold: float(np.mean([np.mean(np.array(found) <= threshold) for found in distances]))
        for threshold in thresholds
    }


def padded_keypoints(keypoints: Tensor, size: tuple[int, int], side: int) -> tuple[Tensor, tuple[int, int], float]:
    """Return keypoints of an image that is resized to fit a square of `side` pixels and padded around its middle.

    The SPair-71k protocol of mwalmer-umd/vit_analysis (run_kp_analysis.py).

    Args:
        keypoints: (keypoints, 3): x, y in pixels, and 1 where visible; invisible ones become 0.
        size: (width, height) of the image in pixels.

    Returns:
        Keypoints (keypoints, 3) in the square, the offset (x, y) of the image in it, and the scale.
    """
    width, height = size
    scale = side / max(width, height)
    left = int((side - int(np.around(side * width / height))) / 2) if width < height else 0
    top = int((side - int(np.around(side * height / width))) / 2) if height < width else 0
    moved = keypoints.clone()
    moved[:, :2] = moved[:, :2] * scale + torch.tensor([left, top], dtype=moved.dtype)
    return moved * keypoints[:, 2:], (left, top), scale


class Transfer(NamedTuple):
    """Keypoints of a source image found in a target image.

    Attributes:
        pixels: (keypoints,), row * side + column in the target image.
        similarity: (keypoints,), cosine similarity there.
    """

    pixels: Tensor
    similarity: Tensor


def transfer_keypoints(source: Tensor, target: Tensor, keypoints: Tensor, side: int) -> Transfer:
    """Find the most similar pixels of a target image for keypoints of a source image (SPair-71k).

    Features are normalised on the grid, then interpolated to pixels and not normalised again. The pixel of a keypoint
    is its x rounded down and its y rounded to the nearest, as in the original.

    Args:
        source, target: features (channels, rows, columns).
        keypoints: (keypoints, 2), x and y in pixels of the square image of `side` pixels.
    """
    fine = [
        torch.nn.functional.interpolate(
            torch.nn.functional.normalize(maps, dim=0)[None], size=(side, side), mode="bilinear"
        )[0].flatten(1)
        for maps in (source, target)
    ]
    places = side * keypoints[:, 1].round().long() + keypoints[:, 0].long()
    similarity, pixels = (fine[0][:, places].T @ fine[1]).max(dim=1)
    return Transfer(pixels, similarity)


def correct_transfers(
    found: Sequence[Tensor],
    truth: Sequence[Tensor],
    sizes: Sequence[float],
    side: int,
    alphas: Sequence[float] = (0.1, 0.05, 0.01),
) -> dict[float, float]:
    """Return PCK by alpha: the fraction of all keypoints that lie nearer than alpha times the size of the object.

    Args:
        found: pixels (keypoints,) of each pair, from `transfer_keypoints`.
        truth: (keypoints, 2) of each pair, x and y in the target image.
        sizes: of the target's object in pixels, the longer side of its box, for each pair.
    """
    distances = []
    for pixels, places, size in zip(found, truth, sizes, strict=True):
        predicted = torch.stack([pixels % side, pixels // side], dim=1)
        distances.append((predicted - places).norm(dim=1) / size)
    joined = torch.cat(distances)
    if not len(joined):
        raise ValueError("no keypoint is visible in both images of any pair")
    return {alpha: float((joined < alpha).float().mean()) for alpha in alphas}
