"""ResNet with bottleneck blocks, as torchvision has it: He et al., arXiv 1512.03385, with the stride on the 3x3."""

import torch
from torch import nn

from ...layers.convolution import ConvNorm


class Bottleneck(nn.Module):
    """Bottleneck block: 1x1, 3x3 and 1x1 convolution with a residual connection."""

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        out_channels = 4 * width
        self.reduce = ConvNorm(in_channels, width, 1)
        self.convolution = ConvNorm(width, width, 3, stride)
        self.expand = ConvNorm(width, out_channels, 1)
        self.shortcut = ConvNorm(in_channels, out_channels, 1, stride) if in_channels != out_channels else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, height, width) to (batch, 4 * width, height / stride, width / stride)."""
        hidden = self.reduce(inputs).relu()
        hidden = self.expand(self.convolution(hidden).relu())
        return (hidden + (inputs if self.shortcut is None else self.shortcut(inputs))).relu()


class ResNet(nn.Module):
    """ResNet without pooling and classifier. Every stage but the first halves the feature map.

    Args:
        config: with num_channels, embedding_size (channels of the stem) and depths.
    """

    def __init__(self, config):
        super().__init__()
        width = channels = config.embedding_size
        self.stem = ConvNorm(config.num_channels, channels, 7, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        stages = []
        for stage, depth in enumerate(config.depths):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(channels, width * 2**stage, stride=2 if stage and not block else 1))
                channels = 4 * width * 2**stage
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Map images (batch, channels, height, width) to the last feature map; there is no auxiliary head."""
        hidden = self.pool(self.stem(pixel_values).relu())
        for stage in self.stages:
            hidden = stage(hidden)
        return hidden, None
