"""Self-attention within the frames of a clip, and across them.

Arnab et al., "ViViT: A Video Vision Transformer", arXiv 2103.15691, section 3.3. Tokens are (batch, frames, places,
channels). Axes are folded into one another so that no attention has to copy queries, keys or values.
"""

import torch
from torch import nn

from ...layers.attention import QueryKeyValue, SelfAttention, attend


class SpaceAttention(SelfAttention):
    """Every token attends to those of its frame; a frame is an example of its own."""

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Arguments as in `SelfAttention.forward`, with frames.

        Args:
            hidden_states: (batch, frames, tokens, hidden_size).

        Returns:
            (batch, frames, queries, hidden_size), and the probabilities (batch * frames, heads, queries, tokens) where
            the implementation has them.
        """
        attended, probabilities = super().forward(hidden_states.flatten(0, 1), **kwargs)
        return attended.unflatten(0, hidden_states.shape[:2]), probabilities


class TimeQueryKeyValue(QueryKeyValue):
    """Queries, keys and values across frames.

    The rows of the weight go head by head: query, key and value of the first, then of the next. So all heads of all
    places follow one another evenly, and are taken for as many heads.
    """

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(batch, frames, places, hidden_size) to three tensors of (batch, places * heads, frames, head_dim)."""
        batch, frames, places, _ = hidden_states.shape
        fused = nn.Linear.forward(self, hidden_states).view(batch, frames, places * self.num_heads, 3, -1)
        query, key, value = fused.unbind(3)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)


class TimeAttention(SelfAttention):
    """Every token attends to those at its place in all frames."""

    qkv_class = TimeQueryKeyValue

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Let tokens attend across frames.

        Args:
            hidden_states: (batch, frames, places, hidden_size).

        Returns:
            The same shape, and the probabilities (batch, places * heads, frames, frames) where the implementation has
            them.
        """
        attended, probabilities = attend(self, *self.qkv(hidden_states), **kwargs)
        attended = attended.reshape(*hidden_states.shape[:3], -1)
        return self.dropout(self.projection(attended)), probabilities


class SpaceTimeAttention(nn.Module):
    """The first half of the heads attends across frames, the second half within them (section 3.3, model 4).

    The original puts the halves together and projects them; here each is projected, which sums to the same. Arguments
    are those of `SelfAttention`.
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
            half.projection.fan_in = hidden_size  # for initialisation, which is that of the whole
        self.dropout = nn.Dropout(projection_dropout) if projection_dropout else nn.Identity()

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, None]:
        """(batch, frames, places, hidden_size) to the same shape; each half records its own probabilities."""
        within, _ = self.space(hidden_states, **kwargs)
        across, _ = self.time(hidden_states, **kwargs)
        return self.dropout(within + across), None


def time_attention_state(state: dict[str, torch.Tensor], num_heads: int) -> dict[str, torch.Tensor]:
    """The weights of a `SelfAttention`, {key: tensor}, as those of a `TimeAttention`."""
    return {
        key: value.unflatten(0, (3, num_heads, -1)).transpose(0, 1).flatten(0, 2) if key.startswith("qkv.") else value
        for key, value in state.items()
    }


def space_time_attention_state(state: dict[str, torch.Tensor], num_heads: int) -> dict[str, torch.Tensor]:
    """The weights of a `SelfAttention`, {key: tensor}, as those of a `SpaceTimeAttention`."""
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
