"""Layers of Branchformer: embeddings, the two branches, and the layer that merges them.

espnet/espnet (espnet2/asr/encoder/branchformer_encoder.py).
"""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ...layers.attention import SelfAttention, attend
from .configuration_branchformer import BranchformerConfig
from .fast_attention_branchformer import FastAttention
from .gating_branchformer import ConvolutionalGatingMLP
from .merging_branchformer import BranchMerge, ConcatMerge, FixedAverageMerge, LearnedAverageMerge, SingleBranch
from .positions_branchformer import LegacyRelativeSinusoids, RelativeSinusoids, Sinusoids
from .relative_attention_branchformer import RelativeSelfAttention
from .subsampling_branchformer import ConvSubsampling, LinearInput

SINUSOIDS = {
    "relative": RelativeSinusoids,
    "legacy_relative": LegacyRelativeSinusoids,
    "absolute": Sinusoids,
    "scaled_absolute": Sinusoids,
}


class BranchformerEmbeddings(nn.Module):
    """Subsampled frames, with absolute positions added or a table of relative positions."""

    def __init__(self, config: BranchformerConfig):
        super().__init__()
        self.config = config
        sizes = (config.num_mel_bins, config.hidden_size)
        if config.input_layer == "linear":
            self.subsampling = LinearInput(*sizes, config.hidden_dropout_prob)
        else:
            self.subsampling = ConvSubsampling(config.input_layer, *sizes)
        self.positions = SINUSOIDS[config.position_embedding_type](config.max_source_positions, config.hidden_size)
        is_scaled = config.position_embedding_type == "scaled_absolute"
        self.position_scale = nn.Parameter(torch.ones(())) if is_scaled else None
        self.dropout = nn.Dropout(config.position_dropout_prob)

    def forward(self, input_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, frames, num_mel_bins) to (batch, subsampled frames, hidden_size).

        Also returns the table of relative positions; None with absolute positions.
        """
        tokens = self.subsampling(input_features)
        # While a model is on the meta device, its constant tables are on the CPU.
        table = self.positions(tokens.shape[1]).to(tokens.device)
        if self.position_scale is not None:
            return self.dropout(tokens + self.position_scale * table), None
        tokens = tokens * self.config.hidden_size**0.5
        if self.config.uses_relative_positions:
            return self.dropout(tokens), self.dropout(table)
        return self.dropout(tokens + table), None


class BranchformerSelfAttention(SelfAttention):
    """Self-attention over frames with absolute positions, with optional norms of queries and keys."""

    def __init__(self, config: BranchformerConfig):
        super().__init__(
            config,
            config.hidden_size,
            config.num_attention_heads,
            attention_dropout=config.attention_probs_dropout_prob,
        )
        head_size = config.hidden_size // config.num_attention_heads
        norms = (nn.LayerNorm(head_size, eps=config.layer_norm_eps) if config.qk_norm else None for _ in range(2))
        self.query_norm, self.key_norm = norms

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, length, hidden_size) to the same shape; also returns the probabilities or None."""
        query, key, value = self.split(self.qkv(hidden_states))
        if self.query_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        attended, probabilities = attend(self, query, key, value, attention_mask, **kwargs)
        return self.projection(attended.flatten(2)), probabilities


class GlobalBranch(nn.Module):
    """Attention branch: a norm, then the attention of `config.attention_type`."""

    def __init__(self, config: BranchformerConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        sizes = (config.hidden_size, config.num_attention_heads, config.attention_probs_dropout_prob)
        self.is_fast = config.attention_type == "fast"
        self.is_relative = config.uses_relative_positions
        if self.is_fast:
            self.attention = FastAttention(*sizes)
        elif self.is_relative:
            is_legacy = config.position_embedding_type == "legacy_relative"
            self.attention = RelativeSelfAttention(config, *sizes, config.only_backward_positions, is_legacy)
        else:
            self.attention = BranchformerSelfAttention(config)

    def forward(self, hidden_states: torch.Tensor, position_states, frame_mask, attention_mask, **kwargs):
        """Map (batch, length, hidden_size) to the same shape; arguments as in `BranchformerLayer`."""
        hidden_states = self.norm(hidden_states)
        if self.is_fast:
            return self.attention(hidden_states, frame_mask)
        if self.is_relative:
            return self.attention(hidden_states, position_states, attention_mask, **kwargs)[0]
        return self.attention(hidden_states, attention_mask, **kwargs)[0]


class LocalBranch(nn.Module):
    """MLP branch: a norm, then the convolutional gating MLP."""

    def __init__(self, config: BranchformerConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = ConvolutionalGatingMLP(
            config.hidden_size,
            config.intermediate_size,
            config.conv_depthwise_kernel_size,
            config.layer_norm_eps,
            config.use_gate_linear,
            config.gate_act,
            config.hidden_dropout_prob,
            config.mask_convolutions,
        )

    def forward(self, hidden_states: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
        """Map (batch, length, hidden_size) to the same shape."""
        return self.mlp(self.norm(hidden_states), frame_mask)


def make_merge(config: BranchformerConfig, index: int) -> BranchMerge:
    """Make the module that merges the branches of layer `index`."""
    hidden_size = config.hidden_size
    if config.per_layer("branches")[index] != "both":
        return SingleBranch(hidden_size, use_projection=config.merge_method != "concat")
    if config.merge_method == "concat":
        return ConcatMerge(hidden_size)
    if config.merge_method == "fixed_average":
        return FixedAverageMerge(hidden_size, config.per_layer("mlp_branch_weight")[index])
    return LearnedAverageMerge(hidden_size, config.per_layer("attention_branch_drop_rate")[index])


class BranchformerLayer(GradientCheckpointingLayer):
    """Branchformer layer: both branches read the same frames, are merged and added to them; then a norm."""

    def __init__(self, config: BranchformerConfig, index: int):
        super().__init__()
        branches = config.per_layer("branches")[index]
        self.attention_branch = GlobalBranch(config) if branches != "mlp" else None
        self.mlp_branch = LocalBranch(config) if branches != "attention" else None
        self.merge = make_merge(config, index)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.drop_path_rate = config.per_layer("drop_path_rate")[index]

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_states: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Map (batch, length, hidden_size) to the same shape.

        Args:
            hidden_states: (batch, length, hidden_size).
            position_states: table of relative positions, see `RelativeSelfAttention`.
            frame_mask: boolean (batch, length), False for padding.
            attention_mask: the same mask as a bias on attention scores, (batch, 1, 1, length).
        """
        attended = transformed = None
        if self.attention_branch is not None:
            attended = self.attention_branch(hidden_states, position_states, frame_mask, attention_mask, **kwargs)
            attended = self.dropout(attended)
        if self.mlp_branch is not None:
            transformed = self.dropout(self.mlp_branch(hidden_states, frame_mask))
        merged, _ = self.merge(attended, transformed, frame_mask)
        return self.add(hidden_states, self.dropout(merged))

    def add(self, hidden_states: torch.Tensor, merged: torch.Tensor) -> torch.Tensor:
        if not self.training or self.drop_path_rate == 0:
            return self.norm(hidden_states + merged)
        # A skipped layer skips its norm, too. One draw for the whole batch, as in the original.
        dropped = torch.rand((), device=merged.device) < self.drop_path_rate
        return torch.where(dropped, hidden_states, self.norm(hidden_states + merged / (1 - self.drop_path_rate)))
