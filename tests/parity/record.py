"""Reading what happens inside a model while it runs."""

from contextlib import contextmanager

import torch
from torch import nn


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
