"""Feature pyramid network: feature maps of a backbone, joined from coarse to fine."""

import torch
from torch import nn
from torch.nn import functional as F


class FeaturePyramid(nn.Module):
    """Feature pyramid network (arXiv 1612.03144), as in detectron2 (modeling/backbone/fpn.py).

    Args:
        in_sizes: channels of the backbone's feature maps, from fine to coarse.
        out_size: channels of the pyramid.
        coarser: what follows the last level: "pool", every second cell of it, as in Mask R-CNN; "convolutions", two
            convolutions of stride 2 on the backbone's last feature map, as in RetinaNet.
    """

    def __init__(self, in_sizes: list[int], out_size: int, coarser: str):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(size, out_size, 1) for size in in_sizes)
        self.output = nn.ModuleList(nn.Conv2d(out_size, out_size, 3, padding=1) for _ in in_sizes)
        self.coarser = None
        if coarser == "convolutions":
            self.coarser = nn.ModuleList(
                nn.Conv2d(size, out_size, 3, stride=2, padding=1) for size in (in_sizes[-1], out_size)
            )

    def forward(self, feature_maps: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """Map feature maps (batch, channels, rows, columns), each half as large as the one before, to the pyramid."""
        levels, above = [], None
        for index in reversed(range(len(feature_maps))):
            joined = self.lateral[index](feature_maps[index])
            if above is not None:
                joined = joined + F.interpolate(above, scale_factor=2.0, mode="nearest")
            levels.insert(0, self.output[index](joined))
            above = joined
        if self.coarser is None:
            return [*levels, F.max_pool2d(levels[-1], kernel_size=1, stride=2)]
        first, second = self.coarser
        coarser = first(feature_maps[-1])
        return [*levels, coarser, second(F.relu(coarser))]
