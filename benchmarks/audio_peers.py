"""Peers of Audiomer and SepTr, which no library has: the same networks with attention of PyTorch and timm."""

import torch
from timm.layers import Attention, Mlp
from torch import nn

from hf_vits import AudiomerConfig, AudiomerForAudioClassification, SepTrConfig
from hf_vits.layers.performer import PerformerAttention


class SoftmaxAttention(nn.Module):
    """PyTorch's softmax attention with the projections of a Performer attention."""

    def __init__(self, performer: PerformerAttention):
        super().__init__()
        self.num_heads = performer.num_heads
        self.query, self.key_value = performer.query, performer.key_value
        self.projection, self.dropout = performer.projection, performer.dropout

    def forward(self, hidden_states: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        query = self.query(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        key, value = self.key_value(context).unflatten(-1, (2, self.num_heads, -1)).unbind(2)
        attended = nn.functional.scaled_dot_product_attention(query, key.transpose(1, 2), value.transpose(1, 2))
        return self.dropout(self.projection(attended.transpose(1, 2).flatten(2)))


def softmax_audiomer(**fields) -> nn.Module:
    """Build Audiomer with softmax attention in place of Performer attention, with the same projections."""
    model = AudiomerForAudioClassification(AudiomerConfig(**fields))
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, PerformerAttention):
                setattr(module, name, SoftmaxAttention(child))
    return model


class TimmLayer(nn.Module):
    """A pre-norm transformer layer of timm's attention and MLP."""

    def __init__(self, config: SepTrConfig):
        super().__init__()
        width = config.hidden_size
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, config.num_attention_heads, attn_head_dim=config.head_dim)
        self.mlp = Mlp(width, config.intermediate_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class TimmAxis(nn.Module):
    """A layer along the last axis but one of (batch, lines, length, width), with a class token prepended."""

    def __init__(self, config: SepTrConfig, length: int):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 1, 1 + length, config.hidden_size))
        self.layer = TimmLayer(config)

    def forward(self, lines: torch.Tensor, class_token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, count, length, width = lines.shape
        class_tokens = class_token[:, None, None].expand(batch, count, 1, width)
        tokens = torch.cat([class_tokens, lines], dim=2) + self.positions
        tokens = self.layer(tokens.reshape(batch * count, 1 + length, width)).view(batch, count, 1 + length, width)
        return tokens[:, :, 1:], tokens[:, :, 0].mean(dim=1)


class TimmSepTr(nn.Module):
    """SepTr, frequency first, for spectrograms (batch, frames, bins)."""

    def __init__(self, **fields):
        super().__init__()
        config = SepTrConfig(**fields)
        self.projection = nn.Linear(1, config.hidden_size)
        self.class_token = nn.Parameter(torch.randn(1, config.hidden_size))
        sizes = config.num_mel_bins, config.num_frames
        self.layers = nn.ModuleList(
            nn.ModuleList(TimmAxis(config, size) for size in sizes) for _ in range(config.num_hidden_layers)
        )
        self.head = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        tokens, class_token = self.projection(features[..., None]), self.class_token.expand(len(features), -1)
        for frequency, time in self.layers:
            tokens, class_token = frequency(tokens, class_token)
            tokens, class_token = time(tokens.transpose(1, 2), class_token)
            tokens = tokens.transpose(1, 2)
        return self.head(class_token)
