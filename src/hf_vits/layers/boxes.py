"""Boxes as corners (x0, y0, x1, y1) in pixels: overlap, coding as offsets, matching with objects, and sampling.

The arithmetic is detectron2's (structures/boxes.py, modeling/box_regression.py, matcher.py, sampling.py).
torchvision's detectors differ from it: they code boxes relative to anchors that are rounded to whole pixels, limit
the number of candidates before the score threshold is applied, and remove boxes with a side below 0.01 pixel.
"""

import math

import torch
from torchvision.ops import batched_nms

# Largest logarithm of a ratio of sides that a decoded box can have to the box that it is relative to.
MAX_LOG_RATIO = math.log(1000 / 16)


def areas(boxes: torch.Tensor) -> torch.Tensor:
    """Return the areas (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlaps(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union (n, m) of boxes (n, 4) and (m, 4), 0 where the intersection is empty."""
    sides = torch.min(boxes[:, None, 2:], others[:, 2:]) - torch.max(boxes[:, None, :2], others[:, :2])
    intersection = sides.clamp_(min=0).prod(dim=2)
    union = areas(boxes)[:, None] + areas(others) - intersection
    return torch.where(intersection > 0, intersection / union, 0.0)


def clip_boxes(boxes: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Return boxes (..., 4) clipped to an image of `size`, a tensor (height, width)."""
    height, width = size.to(boxes.dtype)
    limits = torch.stack([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)


def are_filled(boxes: torch.Tensor, smallest: float = 0.0) -> torch.Tensor:
    """Return booleans (...): whether both sides of boxes (..., 4) are longer than `smallest`."""
    return (boxes[..., 2] - boxes[..., 0] > smallest) & (boxes[..., 3] - boxes[..., 1] > smallest)


def centres_and_sides(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return centre x, centre y, width and height, each (...), of boxes (..., 4)."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return boxes[..., 0] + 0.5 * width, boxes[..., 1] + 0.5 * height, width, height


def encode_boxes(boxes: torch.Tensor, anchors: torch.Tensor, weights: tuple[float, ...]) -> torch.Tensor:
    """Return the offsets (n, 4) that turn anchors (n, 4) into boxes (n, 4).

    The offsets are the distances of the centres in widths and heights of the anchor, and the logarithms of the ratios
    of widths and heights, times the four `weights`.
    """
    centre_x, centre_y, width, height = centres_and_sides(boxes)
    anchor_x, anchor_y, anchor_width, anchor_height = centres_and_sides(anchors)
    weight_x, weight_y, weight_width, weight_height = weights
    return torch.stack(
        [
            weight_x * (centre_x - anchor_x) / anchor_width,
            weight_y * (centre_y - anchor_y) / anchor_height,
            weight_width * torch.log(width / anchor_width),
            weight_height * torch.log(height / anchor_height),
        ],
        dim=1,
    )


def decode_boxes(offsets: torch.Tensor, anchors: torch.Tensor, weights: tuple[float, ...]) -> torch.Tensor:
    """Return the boxes (n, k * 4), float32, of offsets (n, k * 4) to anchors (n, 4); inverse of `encode_boxes`."""
    parts = offsets.float().unflatten(1, (-1, 4))
    weight_x, weight_y, weight_width, weight_height = weights
    anchor_x, anchor_y, anchor_width, anchor_height = (
        part[:, None] for part in centres_and_sides(anchors.to(parts.dtype))
    )
    centre_x = parts[..., 0] / weight_x * anchor_width + anchor_x
    centre_y = parts[..., 1] / weight_y * anchor_height + anchor_y
    width = torch.exp((parts[..., 2] / weight_width).clamp(max=MAX_LOG_RATIO)) * anchor_width
    height = torch.exp((parts[..., 3] / weight_height).clamp(max=MAX_LOG_RATIO)) * anchor_height
    corners = [centre_x - 0.5 * width, centre_y - 0.5 * height, centre_x + 0.5 * width, centre_y + 0.5 * height]
    return torch.stack(corners, dim=-1).flatten(1)


IGNORED, NEGATIVE, POSITIVE = -1, 0, 1


def match(
    quality: torch.Tensor, low: float, high: float, keep_best: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Match candidates with the objects that they overlap most.

    Args:
        quality: (objects, candidates), overlaps of the boxes.
        low, high: candidates below `low` are NEGATIVE, from `high` on POSITIVE, others IGNORED.
        keep_best: whether the candidates that overlap an object most, ties included, are positive whatever the
            overlap. Each is still matched with the object that it overlaps most itself.

    Returns:
        Index (candidates,) of an object for each candidate, 0 where there is none, and NEGATIVE, IGNORED or POSITIVE
        (candidates,), int8.
    """
    if not quality.numel():
        matches = quality.new_zeros(quality.shape[1], dtype=torch.int64)
        return matches, torch.full_like(matches, NEGATIVE, dtype=torch.int8)
    values, matches = quality.max(dim=0)
    kinds = torch.full_like(matches, POSITIVE, dtype=torch.int8)
    kinds[values < high] = IGNORED
    kinds[values < low] = NEGATIVE
    if keep_best:
        best = quality.max(dim=1, keepdim=True).values
        kinds[(quality == best).any(dim=0)] = POSITIVE
    return matches, kinds


def sample(
    labels: torch.Tensor, count: int, positive_fraction: float, background: int, training: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw indices of positive and of negative candidates, together `count` or, where there are fewer, all.

    Args:
        labels: (candidates,), -1 for candidates that are never drawn, `background` for negative ones.
        positive_fraction: largest fraction of positive ones; negative ones fill up.
        training: whether each call draws others; if not, the same labels give the same indices.
    """
    generator = None if training else torch.Generator(labels.device).manual_seed(0)
    positive = torch.nonzero((labels != -1) & (labels != background)).squeeze(1)
    negative = torch.nonzero(labels == background).squeeze(1)
    num_positive = min(positive.numel(), int(count * positive_fraction))
    num_negative = min(negative.numel(), count - num_positive)
    positive = positive[torch.randperm(positive.numel(), generator=generator, device=labels.device)[:num_positive]]
    negative = negative[torch.randperm(negative.numel(), generator=generator, device=labels.device)[:num_negative]]
    return positive, negative


def suppress(boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return the indices that non-maximum suppression within each group keeps, by falling score."""
    return batched_nms(boxes.float(), scores.float(), groups, threshold)


def l1_loss(predicted: torch.Tensor, target: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the sum of the smooth L1 loss, which is quadratic up to a difference of `beta`; 0 for plain L1."""
    difference = torch.abs(predicted - target)
    if beta < 1e-5:
        return difference.sum()
    return torch.where(difference < beta, 0.5 * difference**2 / beta, difference - 0.5 * beta).sum()
