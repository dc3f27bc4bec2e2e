"""Tracking of keypoints through a video, their transfer between images, and the percentage of correct ones (PCK).

The transfer is that of Walmer et al., arXiv 2212.03862 (mwalmer-umd/vit_analysis, run_kp_analysis.py); the tracking of
ajabri/videowalk (code/utils/test_utils.py, `process_pose`; code/eval/eval_pck.py), with which SFC measures JHMDB.
"""

from collections.abc import Sequence

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


def pad_keypoints(keypoints: Tensor, size: tuple[int, int], side: int) -> tuple[Tensor, tuple[int, int], float]:
    """Return keypoints in the pixels of a square image, which the original fills along its longer side.

    Args:
        keypoints: (keypoints, 3): x and y in pixels, and whether the keypoint is visible (1 or 0).
        size: (width, height) of the original image.
        side: of the square image.

    Returns:
        The keypoints, all zero where they are not visible; the (x, y) of the image's corner; the scale.
    """
    width, height = size
    scale = side / max(width, height)
    corner = tuple(int((side - round(side * own / max(size))) / 2) for own in (width, height))
    places = keypoints[:, :2] * scale + torch.tensor(corner, dtype=keypoints.dtype)
    visible = keypoints[:, 2:]
    return torch.cat([places, visible], dim=1) * visible, (corner[0], corner[1]), scale


@torch.no_grad()
def transfer_keypoints(source: Tensor, target: Tensor, keypoints: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the most similar pixel of another image for each keypoint, and its similarity.

    Features are normalised on the grid, then resized to pixels without normalising again.

    Args:
        source, target: patch features (channels, rows, columns) of both images.
        keypoints: x and y in the source's pixels, (keypoints, 2); y is rounded, x is cut.
        side: height and width of the images in pixels.

    Returns:
        x and y in the target's pixels, (keypoints, 2) of int64; similarities (keypoints,).
    """
    fine = [
        torch.nn.functional.interpolate(
            torch.nn.functional.normalize(features[None], dim=1),
            scale_factor=side / features.shape[1],
            mode="bilinear",
        )[0]
        for features in (source, target)
    ]
    x, y = keypoints[:, 0].int().long(), keypoints[:, 1].round().long()
    found = (fine[0][:, y, x].T @ fine[1].flatten(1)).max(dim=1)
    return torch.stack([found.indices % side, found.indices // side], dim=1), found.values


def transferred_correctly(
    predicted: Tensor, truth: Tensor, sizes: Tensor, alphas: Sequence[float] = (0.1, 0.05, 0.01)
) -> dict[float, float]:
    """Return PCK by alpha: the fraction of keypoints that are nearer than alpha times the object's size.

    Args:
        predicted, truth: (keypoints, 2), x and y in pixels.
        sizes: of each keypoint's object, the longer side of its box in pixels, (keypoints,).
    """
    errors = (predicted - truth).norm(dim=-1)
    return {alpha: float((errors < alpha * sizes).double().mean()) for alpha in alphas}
