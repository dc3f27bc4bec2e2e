"""Inception v3, as torchvision has it: Szegedy et al., arXiv 1512.00567.

Each mixed layer is a table of branches, which are chains of convolutions; the branches' results are concatenated.
"""

import torch
from torch import nn
from torch.nn import functional as F

from ...layers.convolution import ConvNorm

BATCH_NORM_EPS = 1e-3
# A convolution is (channels, (kernel height, kernel width), stride, whether its sides are padded), with the channels
# for a stem of 32. "average" and "max" pool 3x3; a list of chains ends a branch in several, which share its start.
ONE, THREE, FIVE, ROW, COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)


def conv(channels: int, kernel: tuple[int, int] = ONE, stride: int = 1, padded: bool = True) -> tuple:
    return channels, kernel, stride, padded


def mixed_5(pooled: int) -> list:
    """Return the branches of a layer at stride 8, whose pooled branch has `pooled` channels."""
    return [
        [conv(64)],
        [conv(48), conv(64, FIVE)],
        [conv(64), conv(96, THREE), conv(96, THREE)],
        ["average", conv(pooled)],
    ]


def mixed_6(width: int) -> list:
    """Return the branches of a layer at stride 16 with 7x7 convolutions in two parts, `width` channels between."""
    return [
        [conv(192)],
        [conv(width), conv(width, ROW), conv(192, COLUMN)],
        [conv(width), conv(width, COLUMN), conv(width, ROW), conv(width, COLUMN), conv(192, ROW)],
        ["average", conv(192)],
    ]


def halving(*chains: list) -> list:
    """Return the branches of a layer that halves the map: chains of convolutions, and max pooling."""
    return [*chains, ["max"]]


SPLIT = [[conv(384, (1, 3))], [conv(384, (3, 1))]]
MIXED_7 = [
    [conv(320)],
    [conv(384), SPLIT],
    [conv(448), conv(384, THREE), SPLIT],
    ["average", conv(192)],
]
SEVEN = [conv(192), conv(192, ROW), conv(192, COLUMN), conv(192, THREE, 2, False)]
LAYERS = {
    "mixed_5b": mixed_5(32),
    "mixed_5c": mixed_5(64),
    "mixed_5d": mixed_5(64),
    "mixed_6a": halving([conv(384, THREE, 2, False)], [conv(64), conv(96, THREE), conv(96, THREE, 2, False)]),
    "mixed_6b": mixed_6(128),
    "mixed_6c": mixed_6(160),
    "mixed_6d": mixed_6(160),
    "mixed_6e": mixed_6(192),
    "mixed_7a": halving([conv(192), conv(320, THREE, 2, False)], SEVEN),
    "mixed_7b": MIXED_7,
    "mixed_7c": MIXED_7,
}
STEM = [conv(32, THREE, 2, False), conv(32, THREE, 1, False), conv(64, THREE), "max"]
STEM += [conv(80), conv(192, THREE, 1, False), "max"]


class Chain(nn.Module):
    """Convolutions with batch norm and ReLU, and pooling, one after the other.

    Args:
        in_channels: channels of the input.
        steps: as in the tables of this module.
        scale: factor from the channels of the tables.

    Attributes:
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, steps: list, scale: float):
        super().__init__()
        self.steps, channels = nn.ModuleList(), in_channels
        for step in steps:
            if step == "average":
                self.steps.append(nn.AvgPool2d(3, stride=1, padding=1))
            elif step == "max":
                self.steps.append(nn.MaxPool2d(3, stride=2))
            elif isinstance(step, list):
                mixed = Mixed(channels, step, scale)
                self.steps.append(mixed)
                channels = mixed.out_channels
            else:
                width, kernel, stride, padded = step
                padding = (kernel[0] // 2, kernel[1] // 2) if padded else 0
                before, channels = channels, round(width * scale)
                norm = {"activation": "relu", "eps": BATCH_NORM_EPS}
                self.steps.append(ConvNorm(before, channels, kernel, stride, padding, **norm))
        self.out_channels = channels

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            hidden = step(hidden)
        return hidden


class Mixed(nn.Module):
    """Branches of an Inception layer, concatenated along the channels."""

    def __init__(self, in_channels: int, branches: list, scale: float):
        super().__init__()
        self.branches = nn.ModuleList(Chain(in_channels, steps, scale) for steps in branches)
        self.out_channels = sum(branch.out_channels for branch in self.branches)  # pyright: ignore[reportCallIssue]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(hidden) for branch in self.branches], dim=1)


class AuxiliaryHead(nn.Module):
    """Auxiliary classifier on the feature map of stride 16, which must be 17 cells or more on each side."""

    def __init__(self, in_channels: int, num_labels: int, scale: float):
        super().__init__()
        self.convolutions = Chain(in_channels, [conv(128), conv(768, FIVE, 1, False)], scale)
        self.classifier = nn.Linear(self.convolutions.out_channels, num_labels)
        self.classifier.is_auxiliary = True

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to logits (batch, num_labels)."""
        pooled = F.avg_pool2d(feature_map, kernel_size=5, stride=3)
        return self.classifier(self.convolutions(pooled).mean(dim=(2, 3)))


class InceptionV3(nn.Module):
    """Inception v3 without final pooling and classifier.

    Args:
        config: with num_channels, embedding_size (channels of the first convolution), auxiliary_head and num_labels.
    """

    def __init__(self, config):
        super().__init__()
        scale = config.embedding_size / 32
        self.stem = Chain(config.num_channels, STEM, scale)
        channels, layers = self.stem.out_channels, {}
        for name, branches in LAYERS.items():
            layers[name] = Mixed(channels, branches, scale)
            channels = layers[name].out_channels
        self.layers = nn.ModuleDict(layers)
        width = self.layers["mixed_6e"].out_channels
        self.auxiliary_head = AuxiliaryHead(width, config.num_labels, scale) if config.auxiliary_head else None

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map images (batch, channels, height, width) to the last feature map and the auxiliary head's logits."""
        hidden, auxiliary_logits = self.stem(pixel_values), None
        for name, layer in self.layers.items():
            hidden = layer(hidden)
            if name == "mixed_6e" and self.auxiliary_head is not None:
                auxiliary_logits = self.auxiliary_head(hidden)
        return hidden, auxiliary_logits
