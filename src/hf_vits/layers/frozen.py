"""Parameters of a checkpoint that nothing trains."""

from torch import nn


class FrozenParameters(nn.Module):
    """A layer whose own parameters ask for no gradient, whoever sets them; `from_pretrained` puts new ones there."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        super().register_parameter(name, None if param is None else param.requires_grad_(False))
