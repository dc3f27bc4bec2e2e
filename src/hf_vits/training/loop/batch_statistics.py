"""Batch norm statistics over the batches of all processes."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class GlobalBatchStatistics(TorchFunctionMode):
    """Context in which batch norms in training mode compute mean and variance over the batches of all processes.

    The originals convert their models to `SyncBatchNorm` for this; here modules are not replaced, and any device
    works. All processes must reach the same norms in the same order; their batch sizes may differ.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        function = global_batch_norm if func is nn.functional.batch_norm else func
        return function(*args, **kwargs)


class SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; the gradients of all processes are summed too."""

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return SumOverProcesses.apply(gradient)


def global_batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `torch.nn.functional.batch_norm`, in training with statistics over all processes.

    Args:
        input: (batch, channels, ...).
        running_mean, running_var: (channels,), updated in place in training; both may be None.
    """
    if not training:
        return nn.functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    axes = [0, *range(2, input.ndim)]
    channelwise = [-1, *[1] * (input.ndim - 2)]
    values = input.to(torch.promote_types(input.dtype, torch.float32))
    count = values.new_tensor([values.numel() // values.shape[1]])
    *_, total = sums = SumOverProcesses.apply(torch.cat([values.sum(axes), count]))
    mean = sums[:-1] / total
    centred = values - mean.view(channelwise)
    variance = SumOverProcesses.apply(centred.square().sum(axes)) / total
    if running_mean is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * total / (total - 1)).to(running_var.dtype), momentum)
    normalised = centred * (variance + eps).rsqrt().view(channelwise)
    if weight is not None:
        normalised = normalised * weight.view(channelwise) + bias.view(channelwise)
    return normalised.to(input.dtype)
