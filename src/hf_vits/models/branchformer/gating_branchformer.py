"""Convolutional gating MLP (cgMLP): half of the channels, convolved along the sequence, gates the other half."""

import torch
from torch import nn
from transformers.activations import ACT2FN

# Activations of ESPnet's gates that transformers' `ACT2FN` lacks.
ACTIVATIONS = {"hardtanh": nn.Hardtanh, "selu": nn.SELU}


class SequenceConv(nn.Conv1d):
    """Depth-wise convolution along a sequence, zero-padded to keep its length."""

    padding: tuple[int, ...]

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, length, channels) to the same shape."""
        # A 2-d convolution of a channels-last image of height 1 is faster than a 1-d one of transposed sequences.
        maps = hidden_states.transpose(1, 2)[:, :, None]
        weight, padding = self.weight[:, :, None], (0, *self.padding)
        maps = nn.functional.conv2d(maps, weight, self.bias, padding=padding, groups=self.groups)
        return maps[:, :, 0].transpose(1, 2)


class SpatialGate(nn.Module):
    """Gate on half of the channels by the other half, normalised and convolved along the sequence.

    Args:
        channels: channels of each half.
        use_linear: whether a linear layer follows the convolution.
        activation: activation of the gate, a name of transformers' `ACT2FN` or a key of `ACTIVATIONS`.
        mask_padding: whether padding frames are set to zero before the convolution.
    """

    def __init__(
        self, channels: int, kernel_size: int, eps: float, use_linear: bool, activation: str, mask_padding: bool
    ):
        super().__init__()
        self.mask_padding = mask_padding
        self.norm = nn.LayerNorm(channels, eps=eps)
        self.convolution = SequenceConv(channels, kernel_size)
        self.linear = nn.Linear(channels, channels) if use_linear else None
        self.activation = ACTIVATIONS[activation]() if activation in ACTIVATIONS else ACT2FN[activation]

    def forward(self, hidden_states: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, length, 2 * channels) to (batch, length, channels); the mask as in `ConvolutionalGatingMLP`."""
        states, gate = hidden_states.chunk(2, dim=-1)
        gate = self.norm(gate)
        if self.mask_padding and frame_mask is not None:
            gate = gate * frame_mask[..., None]
        gate = self.convolution(gate)
        if self.linear is not None:
            gate = self.linear(gate)
        return states * self.activation(gate)


class ConvolutionalGatingMLP(nn.Module):
    """MLP of a linear layer, exact GELU, `SpatialGate` and a linear layer.

    The cgMLP of Sakuma et al., "MLP-based architecture with variable length input for automatic speech recognition"
    (openreview RA-zVvZLYIy), after gMLP, arXiv 2105.08050; espnet2/asr/layers/cgmlp.py.

    Args:
        intermediate_size: channels after the first linear layer; the gate returns half as many.
        kernel_size: kernel size of the gate's convolution, odd.
        eps: epsilon of the gate's norm.
        use_gate_linear, gate_act, mask_padding: see `SpatialGate`.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        kernel_size: int,
        eps: float,
        use_gate_linear: bool = False,
        gate_act: str = "linear",
        dropout: float = 0.0,
        mask_padding: bool = False,
    ):
        super().__init__()
        channels = intermediate_size // 2
        self.up = nn.Linear(hidden_size, intermediate_size)
        self.gate = SpatialGate(channels, kernel_size, eps, use_gate_linear, gate_act, mask_padding)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(channels, hidden_size)

    def forward(self, hidden_states: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (batch, length, hidden_size) to the same shape.

        Args:
            frame_mask: boolean (batch, length), False for padding; read only with `mask_padding`.
        """
        hidden_states = nn.functional.gelu(self.up(hidden_states))
        return self.down(self.dropout(self.gate(hidden_states, frame_mask)))
