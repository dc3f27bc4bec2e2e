"""Reading what happens inside a model while it runs."""

from contextlib import contextmanager

import torch
from torch import nn

from .golden import Case


@contextmanager
def recording(modules: dict[str, nn.Module]):
    """Yield a dict that fills with {name: output of the module} during forward passes.

    Of a module that returns several tensors the first is kept, of one that runs several times the first run.
    """
    seen: dict[str, torch.Tensor] = {}

    def hook(name):
        def keep(module, arguments, output):
            seen.setdefault(name, output[0] if isinstance(output, tuple) else output)

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def eager_attentions(model: nn.Module, **inputs) -> tuple[torch.Tensor, ...]:
    """Attention probabilities of every layer; the model keeps its attention implementation."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        return model(**inputs, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(before)


def with_channels(case: Case, computed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What was computed, and what a case names `X_channelN`: channel N of X at every position.

    Channels are axis 1 of maps, which have four axes, and the last axis of sequences.
    """
    channels = {}
    for name in case.meta["outputs"]:
        whole, _, channel = name.rpartition("_channel")
        if whole in computed:
            tensor = computed[whole]
            channels[name] = tensor.select(1 if tensor.ndim == 4 else -1, int(channel))
    return computed | channels
