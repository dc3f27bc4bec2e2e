"""Aggregation of the features of patches to those of an image.

google-research/google-research, ptopk_patch_selection: lib/layers/sample_patches.py (PatchNet),
lib/layers/transformer.py.
"""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ...layers.attention import SelfAttention
from ...layers.mlp import MLP


class PostNormLayer(GradientCheckpointingLayer):
    """Transformer layer with layer norms after its residual connections, ReLU, and an MLP of twice the width."""

    def __init__(self, config, hidden_size: int, dropout: float = 0.1, layer_norm_eps: float = 1e-6):
        super().__init__()
        self.attention = SelfAttention(config, hidden_size, config.num_attention_heads, projection_dropout=dropout)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.mlp = MLP(hidden_size, 2 * hidden_size, "relu")
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to the same shape."""
        attended, _ = self.attention(hidden_states, **kwargs)
        hidden_states = self.attention_norm(hidden_states + attended)
        return self.mlp_norm(hidden_states + self.dropout(self.mlp(hidden_states)))


class PatchTransformer(nn.Module):
    """Transformer over the features of patches, with a learned position code of the cells that they come from.

    Args:
        config: a `PatchSelectionConfig`.
        num_cells: number of scores of an image.
    """

    def __init__(self, config, num_cells: int):
        super().__init__()
        self.pooling = config.pooling
        size, feature_size = config.hidden_size, config.feature_size
        self.position = nn.Linear(num_cells, feature_size)
        self.projection = nn.Linear(feature_size, size) if feature_size != size else nn.Identity()
        self.class_token = nn.Parameter(torch.zeros(1, 1, size)) if config.pooling == "cls" else None
        self.layers = nn.ModuleList(
            PostNormLayer(config, size, config.hidden_dropout_prob, config.layer_norm_eps)
            for _ in range(config.num_hidden_layers)
        )

    def forward(self, features: torch.Tensor, indicators: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens (batch, prefix + k, hidden_size) and their aggregate (batch, hidden_size).

        Args:
            features: (batch, k, feature_size).
            indicators: (batch, k, cells).
        """
        if indicators.shape[-1] != self.position.in_features:
            raise ValueError(
                f"the transformer has positions of {self.position.in_features} cells, those of images of "
                f"config.image_size, got images with {indicators.shape[-1]}"
            )
        tokens = self.projection(features + self.position(indicators.to(features.dtype)))
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, **kwargs)
        return tokens, tokens[:, 0] if self.class_token is not None else pool(tokens, self.pooling)


class PatchPooling(nn.Module):
    """Mean or maximum over the patches, or their sum with a layer norm.

    Args:
        config: a `PatchSelectionConfig`.
    """

    def __init__(self, config):
        super().__init__()
        self.method = config.aggregation_method.removesuffix("_layer_norm")
        self.norm = nn.Identity()
        if self.method == "sum":
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, features: torch.Tensor, indicators: torch.Tensor, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features (batch, k, hidden_size) and their aggregate (batch, hidden_size)."""
        return features, self.norm(pool(features, self.method))


def pool(tokens: torch.Tensor, method: str) -> torch.Tensor:
    """Return the "mean", "max" or "sum" of tokens (batch, tokens, channels) over the tokens."""
    if method == "max":
        return tokens.amax(dim=1)
    return tokens.mean(dim=1) if method == "mean" else tokens.sum(dim=1)
