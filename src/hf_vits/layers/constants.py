"""Buffers whose values follow from a layer's sizes."""

import torch
from torch import nn


class Constants(nn.Module):
    """Base of layers with buffers that are neither trained nor saved.

    `from_pretrained` builds a model on the meta device before it loads the weights, so buffers that no file holds must
    be computed again: `VitsPreTrainedModel._init_weights` does that. A subclass returns the values in `constants` and
    calls `register_constants` once its sizes are known.
    """

    def constants(self) -> dict[str, torch.Tensor]:
        """Return {name of a buffer: its values}, on the CPU whatever the default device."""
        raise NotImplementedError

    def register_constants(self) -> None:
        """Register the buffers."""
        for name, value in self.constants().items():
            # The default dtype is half precision while a model is loaded in half precision.
            value = value.to(torch.get_default_dtype()) if value.is_floating_point() else value
            self.register_buffer(name, value, persistent=False)
