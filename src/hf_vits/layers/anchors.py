"""Anchors: the boxes of fixed sizes and shapes at each position of a feature map, to which detectors refer."""

import math

import torch

from .constants import Constants


class Anchors(Constants):
    """Anchors of the levels of a feature pyramid, as detectron2's DefaultAnchorGenerator makes them.

    Anchors are centred on the upper left corner of each cell, detectron2's offset of 0. torchvision's AnchorGenerator
    rounds their corners to whole pixels, which detectron2 does not.

    Args:
        sizes: of each level, the sides in pixels of its square anchors.
        ratios: height / width of the anchors; each size has one anchor of the same area for each ratio.
        strides: of each level, the distance of neighbouring cells in pixels.
    """

    def __init__(self, sizes: list[list[float]], ratios: list[float], strides: list[int]):
        super().__init__()
        self.sizes, self.ratios, self.strides = sizes, ratios, strides
        self.register_constants()

    def constants(self) -> dict[str, torch.Tensor]:
        """Return {"level<n>": anchors (sizes * ratios, 4) around the origin}."""
        return {f"level{level}": self.cell_anchors(sizes) for level, sizes in enumerate(self.sizes)}

    def cell_anchors(self, sizes: list[float]) -> torch.Tensor:
        """Return the anchors (sizes * ratios, 4) of a cell at the origin."""
        anchors = []
        for size in sizes:
            for ratio in self.ratios:
                width = math.sqrt(size**2 / ratio)
                height = ratio * width
                anchors.append([-width / 2, -height / 2, width / 2, height / 2])
        return torch.tensor(anchors, device="cpu", dtype=torch.float32)

    def forward(self, feature_maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the anchors (rows * columns * anchors of a cell, 4), float32, of each feature map."""
        anchors = []
        for level, (feature_map, stride) in enumerate(zip(feature_maps, self.strides, strict=True)):
            # In half precision the corners of large images would be rounded.
            cell = getattr(self, f"level{level}").float()
            rows, columns = (
                torch.arange(size, device=cell.device, dtype=torch.float32) * stride for size in feature_map.shape[-2:]
            )
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
            anchors.append((shifts + cell).reshape(-1, 4))
        return anchors


def per_anchor(predictions: torch.Tensor, size: int) -> torch.Tensor:
    """Reorder (batch, anchors of a cell * size, rows, columns) to the order of anchors, (batch, anchors, size)."""
    return predictions.unflatten(1, (-1, size)).permute(0, 3, 4, 1, 2).flatten(1, 3)
