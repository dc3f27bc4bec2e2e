"""ResNet with bottleneck blocks, as torchvision has it: He et al., arXiv 1512.03385, with the stride on the 3x3."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...layers.convolution import ConvNorm


@contextmanager
def frozen_statistics(norms: list[nn.Module]):
    """Keep the running statistics of batch norms during the context."""
    counts, momenta = [norm.num_batches_tracked for norm in norms], [norm.momentum for norm in norms]
    for norm in norms:
        norm.num_batches_tracked, norm.momentum = None, 0.0
    try:
        yield
    finally:
        for norm, count, momentum in zip(norms, counts, momenta, strict=True):
            norm.num_batches_tracked, norm.momentum = count, momentum


def recompute_contexts(norms: list[nn.Module]) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return the contexts of a forward pass and of its recomputation in the backward pass."""
    return nullcontext(), frozen_statistics(norms)


def saving_memory(function: Callable, inputs: torch.Tensor, norms: list[nn.Module]) -> torch.Tensor:
    """Return function(inputs); in training what it keeps for the backward pass is computed again there.

    The recomputation ends with the last tensor that is needed. So a convolution at the end is not repeated, only the
    norm and activation before it.

    Args:
        norms: batch norms that the function applies, whose statistics must not be updated twice.
    """
    training = norms[0].training and torch.is_grad_enabled() and inputs.requires_grad
    if not training or torch.compiler.is_compiling():
        return function(inputs)
    contexts = partial(recompute_contexts, norms)
    return checkpoint(function, inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


class Bottleneck(nn.Module):
    """Bottleneck block: 1x1, 3x3 and 1x1 convolution with a residual connection.

    Args:
        recompute_all: whether in training the result of the last convolution is computed again in the backward pass,
            not only norms and activations. It pays where maps are large and have few channels.
    """

    def __init__(self, in_channels: int, width: int, stride: int, recompute_all: bool = False):
        super().__init__()
        self.recompute_all = recompute_all
        out_channels = 4 * width
        self.reduce = ConvNorm(in_channels, width, 1)
        self.convolution = ConvNorm(width, width, 3, stride)
        self.expand = ConvNorm(width, out_channels, 1)
        self.shortcut = ConvNorm(in_channels, out_channels, 1, stride) if in_channels != out_channels else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, height, width) to (batch, 4 * width, height / stride, width / stride)."""
        shortcut = inputs if self.shortcut is None else self.shortcut(inputs)
        parts = (self.reduce, self.convolution, self.expand)
        if not all(len(part) == 2 and is_norm(part[1]) for part in parts):  # folded norms
            hidden = self.expand(self.convolution(self.reduce(inputs).relu_()).relu_())
            return (hidden + shortcut).relu_()
        (first, norm), (second, second_norm), (third, third_norm) = parts
        hidden = saving_memory(lambda hidden: second(norm(hidden).relu_()), first(inputs), [norm])
        if self.recompute_all:
            norms = [second_norm, third_norm]
            hidden = saving_memory(lambda hidden: third_norm(third(second_norm(hidden).relu_())), hidden, norms)
        else:
            hidden = third_norm(
                saving_memory(lambda hidden: third(second_norm(hidden).relu_()), hidden, [second_norm])
            )
        return (hidden + shortcut).relu_()


def is_norm(module: nn.Module) -> bool:
    """Return whether the module is a batch norm, which `hf_vits.fuse` has not folded."""
    return isinstance(module, nn.BatchNorm2d)


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
                stride = 2 if stage and not block else 1
                blocks.append(Bottleneck(channels, width * 2**stage, stride, recompute_all=stage < 2))
                channels = 4 * width * 2**stage
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Map images (batch, channels, height, width) to the last feature map; there is no auxiliary head."""
        hidden = self.pool(self.stem(pixel_values).relu_())
        for stage in self.stages:
            hidden = stage(hidden)
        return hidden, None
