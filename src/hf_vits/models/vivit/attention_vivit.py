"""Self-attention within the frames of a clip, and across them.

Arnab et al., "ViViT: A Video Vision Transformer", arXiv 2103.15691, section 3.3. Tokens are (batch, frames, places,
channels), with the places of a frame in row-major order. Axes are merged such that queries, keys and values are never
copied.
"""

import torch
from torch import nn

from ...layers.attention import SelfAttention, SplitHeads, attend


class SpaceAttention(SelfAttention):
    """Attention of each token to the tokens of its frame; frames are treated as separate samples."""

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute attention within frames; arguments as in `SelfAttention.forward`.

        Args:
            hidden_states: (batch, frames, tokens, hidden_size).

        Returns:
            (batch, frames, queries, hidden_size), and the probabilities (batch * frames, heads, queries, tokens), None
            unless the implementation is eager.
        """
        attended, probabilities = super().forward(hidden_states.flatten(0, 1), **kwargs)
        return attended.unflatten(0, hidden_states.shape[:2]), probabilities


class TimeSplitHeads(SplitHeads):
    """Queries, keys and values across frames.

    The rows of the projection's weight are ordered by head: query, key and value of the first head, then of the next.
    The heads of all places are therefore evenly spaced in memory and can be treated as `places * heads` heads without
    a copy.
    """

    def forward(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map (batch, frames, places, 3 * channels) to three tensors of (batch, places * heads, frames, head_dim)."""
        heads = fused.unflatten(-1, (self.num_heads, 3, -1)).flatten(2, 3)
        query, key, value = heads.unbind(3)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)


class TimeAttention(SelfAttention):
    """Attention of each token to the tokens at the same place in all frames."""

    split_class = TimeSplitHeads

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute attention across frames.

        Args:
            hidden_states: (batch, frames, places, hidden_size).

        Returns:
            The same shape, and the probabilities (batch, places * heads, frames, frames), None unless the
            implementation is eager.
        """
        attended, probabilities = attend(self, *self.split(self.qkv(hidden_states)), **kwargs)
        attended = attended.reshape(*hidden_states.shape[:3], -1)
        return self.dropout(self.projection(attended)), probabilities


class SpaceTimeAttention(nn.Module):
    """Attention across frames by the first half of the heads, within frames by the second (section 3.3, model 4).

    The original concatenates the halves and projects them; here each half is projected and the results are summed,
    which is the same. Arguments are as in `SelfAttention`.
    """

    def __init__(
        self,
        config,
        hidden_size: int,
        num_heads: int,
        qkv_bias: bool = True,
        attention_dropout: float = 0.0,
        projection_dropout: float = 0.0,
    ):
        super().__init__()
        sizes = {"num_heads": num_heads // 2, "attention_size": hidden_size // 2}
        rates = {"qkv_bias": qkv_bias, "attention_dropout": attention_dropout}
        self.time = TimeAttention(config, hidden_size, **sizes, **rates, projection_bias=False)
        self.space = SpaceAttention(config, hidden_size, **sizes, **rates)
        for half in (self.time, self.space):
            half.projection.fan_in = hidden_size  # the initialisation uses the whole's fan-in
        self.dropout = nn.Dropout(projection_dropout) if projection_dropout else nn.Identity()

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, None]:
        """Map (batch, frames, places, hidden_size) to the same shape; each half records its own attentions."""
        within, _ = self.space(hidden_states, **kwargs)
        across, _ = self.time(hidden_states, **kwargs)
        return self.dropout(within + across), None


def time_attention_state(state: dict[str, torch.Tensor], num_heads: int) -> dict[str, torch.Tensor]:
    """Convert the state dict of a `SelfAttention` to one of a `TimeAttention`."""
    return {
        key: value.unflatten(0, (3, num_heads, -1)).transpose(0, 1).flatten(0, 2) if key.startswith("qkv.") else value
        for key, value in state.items()
    }


def space_time_attention_state(state: dict[str, torch.Tensor], num_heads: int) -> dict[str, torch.Tensor]:
    """Convert the state dict of a `SelfAttention` to one of a `SpaceTimeAttention`."""
    halves = {"time": {}, "space": {}}
    for key, value in state.items():
        if key.startswith("qkv."):
            parts = [part.flatten(0, 2) for part in value.unflatten(0, (3, num_heads, -1)).chunk(2, dim=1)]
        elif key == "projection.weight":
            parts = value.chunk(2, dim=1)
        else:
            parts = [None, value]  # the bias is added once
        for half, part in zip(halves.values(), parts, strict=True):
            if part is not None:
                half[key] = part
    halves["time"] = time_attention_state(halves["time"], num_heads // 2)
    return {f"{name}.{key}": value for name, half in halves.items() for key, value in half.items()}
