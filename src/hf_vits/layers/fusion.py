"""Folding of batch norms into adjacent linear layers and convolutions, for inference."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .relative_position import DistanceBias

FUSERS = {
    nn.Conv1d: fuse_conv_bn_eval,
    nn.Conv2d: fuse_conv_bn_eval,
    nn.Conv3d: fuse_conv_bn_eval,
    nn.Linear: fuse_linear_bn_eval,
}


def fuse(model: nn.Module) -> nn.Module:
    """Fold every batch norm directly after or before a convolution or linear layer in an `nn.Sequential`, in place.

    A norm before a convolution is folded only where this is exact, without padding and groups. The biases of
    `DistanceBias` are looked up once and kept. The fused model computes the same results up to rounding, with fewer
    operations. It can no longer be trained as before, nor saved as a checkpoint of its architecture. Raises ValueError
    for a model in training mode, whose batch norms depend on the batch.

    Returns:
        The same model.
    """
    if model.training:
        raise ValueError("fuse() folds batch norms at their running statistics; call model.eval() first")
    for module in model.modules():
        if isinstance(module, DistanceBias):
            module.fold()
    for container in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for index in range(len(container) - 1):
            first, second = container[index], container[index + 1]
            if type(first) in FUSERS and is_batch_norm(second):
                container[index], container[index + 1] = FUSERS[type(first)](first, second), nn.Identity()
            elif is_batch_norm(first) and takes_norm_before(second):
                container[index], container[index + 1] = nn.Identity(), fold_norm_before(first, second)
    return model


def is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def takes_norm_before(module: nn.Module) -> bool:
    """Return whether a norm before the module can be folded into it exactly."""
    if type(module) not in FUSERS:
        return False
    # Padding is zero after the norm, whereas the norm's shift would make it non-zero if folded.
    return isinstance(module, nn.Linear) or bool(module.groups == 1 and not any(module.padding))


@torch.no_grad()
def fold_norm_before(norm: nn.modules.batchnorm._BatchNorm, linear: Any) -> nn.Module:
    """Return a linear layer or convolution that computes `linear(norm(x))`."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    fused = deepcopy(linear)
    bias = linear.weight.flatten(2).sum(2) @ shift if linear.weight.ndim > 2 else linear.weight @ shift
    fused.bias = nn.Parameter(bias if linear.bias is None else bias + linear.bias)
    fused.weight.mul_(scale.view(-1, *[1] * (linear.weight.ndim - 2)))
    return fused
