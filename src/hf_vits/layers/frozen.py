"""Parameters that are saved but not trained."""

from torch import nn


class FrozenParameters(nn.Module):
    """Base of layers whose own parameters never require gradients, also not those that `from_pretrained` sets."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        super().register_parameter(name, None if param is None else param.requires_grad_(False))
