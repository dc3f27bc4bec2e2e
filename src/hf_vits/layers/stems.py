"""Convolutional stems that replace the patch embedding of a transformer."""

from typing import Any

import torch
from torch import nn

from .patch import check_pixel_values


class HierarchicalMLPStem(nn.Module):
    """Hierarchical MLP stem: 4x4 patches merged 2x2 twice, with batch norm and GELU; patches of 16x16 do not interact.

    The hMLP stem of Touvron et al., arXiv 2203.09795, section 5; facebookresearch/deit models_v2.py (`hMLP_stem`).
    The total stride is always 16.
    """

    stride = 16

    def __init__(self, num_channels: int, hidden_size: int):
        super().__init__()
        self.num_channels = num_channels
        width = hidden_size // 4
        self.layers = nn.Sequential(
            nn.Conv2d(num_channels, width, kernel_size=4, stride=4),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.Conv2d(width, width, kernel_size=2, stride=2),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.Conv2d(width, hidden_size, kernel_size=2, stride=2),
            nn.BatchNorm2d(hidden_size),
        )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in tokens for a size in pixels; ValueError unless 16 divides both."""
        if min(height, width) < self.stride or height % self.stride or width % self.stride:
            raise ValueError(
                f"an image of {height}x{width} pixels does not suit a stem of stride {self.stride}: height and width "
                f"must be positive multiples of {self.stride}"
            )
        return height // self.stride, width // self.stride

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, hidden_size, height / 16, width / 16)."""
        check_pixel_values(pixel_values, self.num_channels)
        self.grid(*pixel_values.shape[-2:])
        first: Any = self.layers[0]
        return self.layers(pixel_values.to(first.weight.dtype))


def pad_same(inputs: torch.Tensor, kernel_size: int, stride: int, value: float = 0.0) -> torch.Tensor:
    """Pad (batch, channels, height, width) as TensorFlow's SAME: an odd pixel is added after, not before."""
    padding = []
    for size in (inputs.shape[-1], inputs.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
        padding += [total // 2, total - total // 2]
    return nn.functional.pad(inputs, padding, value=value) if any(padding) else inputs


class StandardizedConv2d(nn.Conv2d):
    """SAME-padded convolution with weight standardisation per output channel (arXiv 1903.10520).

    As in vision_transformer/vit_jax/models_resnet.py, the standard deviation is not corrected for bias, and `eps` is
    added to it, not to the variance.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, eps: float = 1e-5):
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, bias=False)
        self.eps = eps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        weight = weight / (weight.std(dim=(1, 2, 3), correction=0, keepdim=True) + self.eps)
        return nn.functional.conv2d(pad_same(inputs, self.kernel_size[0], self.stride[0]), weight, stride=self.stride)


class BottleneckUnit(nn.Module):
    """ResNet bottleneck with standardised convolutions and group norm; the stride is on the 3x3 convolution."""

    def __init__(self, in_channels: int, width: int, stride: int, eps: float = 1e-5, norm_eps: float = 1e-6):
        super().__init__()
        out_channels = 4 * width
        self.conv1, self.norm1 = StandardizedConv2d(in_channels, width, 1, 1, eps), group_norm(width, norm_eps)
        self.conv2, self.norm2 = StandardizedConv2d(width, width, 3, stride, eps), group_norm(width, norm_eps)
        self.conv3 = StandardizedConv2d(width, out_channels, 1, 1, eps)
        self.norm3 = group_norm(out_channels, norm_eps)
        self.shortcut = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Sequential(
                StandardizedConv2d(in_channels, out_channels, 1, stride, eps), group_norm(out_channels, norm_eps)
            )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.norm1(self.conv1(inputs)).relu()
        hidden = self.norm2(self.conv2(hidden)).relu()
        return (self.shortcut(inputs) + self.norm3(self.conv3(hidden))).relu()


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=eps)


class ResNetStem(nn.Module):
    """ResNet stem of the hybrid ViTs: root (stride 4) and stages, then patches of the feature map.

    vision_transformer/vit_jax/models_vit.py and models_resnet.py (arXiv 2010.11929, "Hybrid Architecture").

    Args:
        depths: number of bottleneck units per stage; empty for the root alone. Every stage but the first halves the
            feature map.
        patch_size: size of a patch in cells of the feature map.
        eps, norm_eps: epsilons of the weight standardisation and of the group norms.
    """

    def __init__(
        self,
        num_channels: int,
        hidden_size: int,
        patch_size: tuple[int, int],
        depths: list[int],
        eps: float = 1e-5,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        self.num_channels = num_channels
        self.patch_size = patch_size
        self.root = StandardizedConv2d(num_channels, 64, 7, stride=2, eps=eps)
        self.root_norm = group_norm(64, norm_eps)
        stages, channels = [], 64
        for index, depth in enumerate(depths):
            width = 64 * 2**index
            units = []
            for unit in range(depth):
                stride = 2 if index > 0 and unit == 0 else 1
                units.append(BottleneckUnit(channels, width, stride, eps, norm_eps))
                channels = 4 * width
            stages.append(nn.Sequential(*units))
        self.stages = nn.ModuleList(stages)
        self.projection = nn.Conv2d(channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in tokens for a size in pixels; ValueError where patches do not fill the map."""
        sizes = []
        for size, patch in zip((height, width), self.patch_size, strict=True):
            for _ in range(2 + max(len(self.stages) - 1, 0)):
                size = -(-size // 2)
            if size < patch or size % patch:
                raise ValueError(
                    f"an image of {height}x{width} pixels leaves a feature map that patches of {self.patch_size} do "
                    f"not fill: height and width must be multiples of "
                    f"{tuple(p * 4 * 2 ** max(len(self.stages) - 1, 0) for p in self.patch_size)}"
                )
            sizes.append(size // patch)
        return sizes[0], sizes[1]

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, hidden_size, rows, columns)."""
        check_pixel_values(pixel_values, self.num_channels)
        self.grid(*pixel_values.shape[-2:])
        hidden = self.root_norm(self.root(pixel_values.to(self.root.weight.dtype))).relu()
        hidden = nn.functional.max_pool2d(pad_same(hidden, 3, 2, value=float("-inf")), kernel_size=3, stride=2)
        for stage in self.stages:
            hidden = stage(hidden)
        return self.projection(hidden)
