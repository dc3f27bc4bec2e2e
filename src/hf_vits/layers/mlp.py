"""The feed-forward half of a transformer layer."""

import torch
from torch import nn
from transformers.activations import ACT2FN


class MLP(nn.Module):
    """Two linear layers with an activation between them and dropout after each.

    Args:
        hidden_size, intermediate_size: channels of the tokens and between the layers.
        hidden_act: a name of transformers' `ACT2FN`.
        output_size: channels of the result; None for `hidden_size`.
        bias: whether the linear layers have biases.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        hidden_act: str,
        dropout: float = 0.0,
        output_size: int | None = None,
        bias: bool = True,
    ):
        super().__init__()
        self.up = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.activation = ACT2FN[hidden_act]
        self.down = nn.Linear(intermediate_size, hidden_size if output_size is None else output_size, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., hidden_size) to (..., output_size)."""
        hidden_states = self.dropout(self.activation(self.up(hidden_states)))
        return self.dropout(self.down(hidden_states))


class GatedMLP(nn.Module):
    """MLP with a gated linear unit: the activation of one half of the channels multiplies the other half.

    Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202, with biases.

    Args:
        hidden_size, intermediate_size: channels of the tokens, and of each half between the layers.
        hidden_act: a name of transformers' `ACT2FN`.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, hidden_act: str):
        super().__init__()
        self.up = nn.Linear(hidden_size, 2 * intermediate_size)
        self.activation = ACT2FN[hidden_act]
        self.down = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., hidden_size) to the same shape."""
        gate, value = self.up(hidden_states).chunk(2, dim=-1)
        return self.down(self.activation(gate) * value)
