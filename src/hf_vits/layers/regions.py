"""Regions: the part of feature maps inside a box, and masks inside a box."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from .boxes import areas

# Side in pixels of the box that is read from the level of stride 16, see `levels_of`.
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4


def levels_of(boxes: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Return the level from which each box (n, 4) is read, as an index from 0 (arXiv 1612.03144, equation 1).

    Args:
        first, last: logarithms to base 2 of the strides of the first and the last level.
    """
    sides = torch.sqrt(areas(boxes))
    levels = torch.floor(CANONICAL_LEVEL + torch.log2(sides / CANONICAL_SIDE + 1e-8))
    return levels.clamp(min=first, max=last).to(torch.int64) - first


def with_image(boxes: list[torch.Tensor]) -> torch.Tensor:
    """Join boxes (n, 4) of each image to (all, 5), the image's index first."""
    counts = torch.tensor([len(part) for part in boxes], device=boxes[0].device)
    indices = torch.arange(len(boxes), device=boxes[0].device, dtype=boxes[0].dtype).repeat_interleave(counts)
    return torch.cat([indices[:, None], torch.cat(boxes)], dim=1)


class RegionPooling(nn.Module):
    """RoIAlign from the level of a pyramid that suits each box's size (detectron2's ROIPooler with "ROIAlignV2").

    Sampling points are half a pixel from the corners (`aligned=True`), and as many as a cell has pixels. torchvision's
    MultiScaleRoIAlign takes two points along each side of a cell, without the shift.

    Args:
        size: rows and columns of the result.
        strides: of each level of the pyramid that is read, powers of 2.
    """

    def __init__(self, size: int, strides: list[int]):
        super().__init__()
        self.size, self.strides = size, strides

    def forward(self, levels: list[torch.Tensor], boxes: list[torch.Tensor]) -> torch.Tensor:
        """Return (all boxes, channels, size, size) of boxes (n, 4), in pixels of the image, of each image."""
        regions = with_image(boxes)
        first, last = (int(math.log2(stride)) for stride in (self.strides[0], self.strides[-1]))
        indices = levels_of(regions[:, 1:], first, last)
        pooled = levels[0].new_zeros(len(regions), levels[0].shape[1], self.size, self.size)
        for index, (level, stride) in enumerate(zip(levels, self.strides, strict=True)):
            (rows,) = torch.nonzero(indices == index, as_tuple=True)
            # torchvision has no kernel for half precision on the CPU.
            values = level.float() if level.dtype in (torch.float16, torch.bfloat16) else level
            part = roi_align(values, regions[rows].to(values.dtype), self.size, 1 / stride, 0, aligned=True)
            pooled = pooled.index_put((rows,), part.to(pooled.dtype))
        return pooled


def crop_masks(masks: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Return the part of masks (n, height, width) in boxes (n, 4), booleans (n, size, size).

    As detectron2's BitMasks (structures/masks.py); its default reads polygons, whose edges are exact.
    """
    indices = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None]
    regions = torch.cat([indices, boxes], dim=1)
    return roi_align(masks[:, None].to(boxes.dtype), regions, size, 1.0, 0, aligned=True).squeeze(1) >= 0.5


def paste_masks(
    masks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold: float = 0.5
) -> torch.Tensor:
    """Return masks (n, rows, columns) of probabilities as booleans (n, height, width) of the image, 0 outside boxes.

    Args:
        boxes: (n, 4), in pixels of the image.
        size: (height, width) of the image.
        threshold: probability from which a pixel belongs to the object.
    """
    height, width = size
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    limits = torch.tensor([width, height], device=boxes.device)
    starts = (boxes[:, :2].floor() - 1).clamp(min=0).long()
    ends = torch.minimum((boxes[:, 2:].ceil() + 1).long(), limits)
    for index, ((left, top), (right, bottom)) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        if right <= left or bottom <= top:
            continue
        x0, y0, x1, y1 = boxes[index].float()
        x = (torch.arange(left, right, device=boxes.device) + 0.5 - x0) / (x1 - x0) * 2 - 1
        y = (torch.arange(top, bottom, device=boxes.device) + 0.5 - y0) / (y1 - y0) * 2 - 1
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
        values = F.grid_sample(masks[index][None, None].float(), grid, align_corners=False)[0, 0]
        pasted[index, top:bottom, left:right] = values >= threshold
    return pasted
