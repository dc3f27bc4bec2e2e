"""Tables that follow from a layer's sizes alone."""

import torch
from torch import nn


class Constants(nn.Module):
    """A layer with buffers that nothing trains and no checkpoint holds.

    A model is built without memory before its weights are loaded, so what no file fills must be made again: the base
    class of all models does that when it initialises. A subclass says in `constants` what the buffers hold and calls
    `register_constants` when its sizes are known.
    """

    def constants(self) -> dict[str, torch.Tensor]:
        """{name of the buffer: its values}, made on the CPU whatever the default device."""
        raise NotImplementedError

    def register_constants(self) -> None:
        for name, value in self.constants().items():
            # A model that is loaded in half precision has this as its default dtype while it is built.
            value = value.to(torch.get_default_dtype()) if value.is_floating_point() else value
            self.register_buffer(name, value, persistent=False)
