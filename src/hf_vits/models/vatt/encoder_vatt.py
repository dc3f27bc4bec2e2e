"""What VATT's encoders have in common: embedding, transformer, initialisation.

Akbari et al., "VATT: Transformers for Multimodal Self-Supervised Learning from Raw Video, Audio and Text",
arXiv 2104.11178, section 3; google-research/vatt, modeling/common/transformers.py.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN

from ...layers.attention import SelfAttention
from ...layers.mlp import MLP
from ...layers.position import PositionEmbedding, interpolate_positions
from ...layers.transformer import TransformerLayer
from ...modeling import EncoderOutput, ForClassification, VitsPreTrainedModel
from .configuration_vatt_encoder import VattEncoderConfig


class VattPositionEmbedding(nn.Module):
    """Positions of a grid of tokens: the sum of a table for each axis, then layer norm.

    Args:
        grid: lengths of the tables.
        last_axis_first: whether tokens that are in row-major order get positions in column-major order, as the
            original does with spectrograms.
    """

    def __init__(self, config: VattEncoderConfig, grid: tuple[int, ...], last_axis_first: bool = False):
        super().__init__()
        self.last_axis_first = last_axis_first
        self.tables = nn.ModuleList(
            PositionEmbedding((length,), config.hidden_size, interpolation="polyharmonic_spline") for length in grid
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, grid: tuple[int, ...]) -> torch.Tensor:
        """Return the positions (1, tokens, hidden_size) for a grid; tables of other lengths are resized."""
        rows = [table((length,))[0] for table, length in zip(self.tables, grid, strict=True)]
        total = rows[0].clone()  # not a view of a parameter, on which torch's module tracker fails as a module's input
        for axis in rows[1:]:
            total = total[..., None, :] + axis
        if self.last_axis_first:
            total = total.transpose(0, 1)
        return self.norm(total.flatten(0, -2))[None]


class VattEmbeddings(nn.Module):
    """Tokens of an input with positions, preceded by an aggregation token, which has none.

    Args:
        patch_embedding: maps inputs to (batch, *grid, channels).
        embedding_size: these channels.
        grid: lengths of the position tables.
        last_axis_first: as in `VattPositionEmbedding`.
    """

    def __init__(
        self,
        config: VattEncoderConfig,
        patch_embedding: nn.Module,
        embedding_size: int,
        grid: tuple[int, ...],
        last_axis_first: bool = False,
    ):
        super().__init__()
        self.kept_tokens = int(config.kept_token_fraction * torch.Size(grid).numel())
        self.drops_tokens = config.kept_token_fraction < 1
        self.aggregation_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.patch_embedding = patch_embedding
        self.pre_projection = nn.Linear(embedding_size, config.hidden_size) if config.pre_projection else None
        self.activation = ACT2FN[config.hidden_act]
        self.position_embedding = VattPositionEmbedding(config, grid, last_axis_first)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inputs: torch.Tensor, token_permutation: torch.Tensor | None = None) -> torch.Tensor:
        """Map inputs to tokens (batch, 1 + tokens, hidden_size).

        Args:
            inputs: what the patch embedding takes.
            token_permutation: (tokens,), the order of which DropToken keeps the first; None for a random one.
        """
        patches = self.patch_embedding(inputs)
        tokens = patches.flatten(1, -2)
        if self.pre_projection is not None:
            tokens = self.activation(self.pre_projection(tokens))
        tokens = self.dropout(tokens + self.position_embedding(tuple(patches.shape[1:-1])))
        if self.training and self.drops_tokens:
            tokens = self.drop_tokens(tokens, token_permutation)
        return torch.cat([self.aggregation_token.expand(tokens.shape[0], 1, -1), tokens], dim=1)

    def drop_tokens(self, tokens: torch.Tensor, permutation: torch.Tensor | None) -> torch.Tensor:
        """Return the tokens that DropToken keeps, in the order of the permutation."""
        count = tokens.shape[1]
        if permutation is None:
            permutation = torch.randperm(count, device=tokens.device)
        elif permutation.shape != (count,):
            raise ValueError(
                f"a permutation of the input's {count} tokens must have shape ({count},), got "
                f"{tuple(permutation.shape)}"
            )
        return tokens[:, permutation[: self.kept_tokens]]


class VattAttention(SelfAttention):
    """Self-attention whose output projection has a bias only where queries, keys and values have one."""

    def __init__(self, config, hidden_size: int, num_heads: int, **options):
        super().__init__(config, hidden_size, num_heads, projection_bias=config.use_bias, **options)


class VattLayer(TransformerLayer):
    """Pre-norm transformer layer, with or without biases."""

    attention_class = VattAttention

    def make_feed_forward(self, config) -> None:
        super().make_feed_forward(config)
        sizes = (config.hidden_size, config.intermediate_size)
        self.mlp = MLP(*sizes, config.hidden_act, config.hidden_dropout_prob, bias=config.use_bias)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_queries: int | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to the same shape, or to the first `num_queries` tokens.

        Args:
            attention_mask: additive bias on the scores; a positional argument, so that re-entrant checkpoints give it
                a gradient.
        """
        return super().forward(hidden_states, num_queries, attention_mask=attention_mask, **kwargs)


class VattEncoder(nn.Module):
    """Transformer layers and a norm."""

    layer_class = VattLayer
    norm_class: type[nn.Module] = nn.LayerNorm

    def __init__(self, config: VattEncoderConfig):
        super().__init__()
        self.layers = nn.ModuleList(self.layer_class(config) for _ in range(config.num_hidden_layers))
        self.norm = self.norm_class(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_queries: int | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Map tokens (batch, tokens, hidden_size) to the same shape, or to the first `num_queries` tokens."""
        *layers, last_layer = self.layers
        for layer in layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return self.dropout(self.norm(last_layer(hidden_states, attention_mask, num_queries, **kwargs)))


class VattPreTrainedModel(VitsPreTrainedModel):
    """Base class of VATT's models."""

    _no_split_modules = ["VattLayer", "VattTextLayer"]

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as the Keras original: linear layers and convolutions uniform (Glorot), biases zero."""
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            fan_out = module.weight[:, 0].numel() // (3 if getattr(module, "is_fused", False) else 1)
            bound = (6 / (module.weight[0].numel() + fan_out)) ** 0.5
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -0.05, 0.05)
        elif isinstance(module, PositionEmbedding):
            std = module.table.shape[-1] ** -0.5
            init.trunc_normal_(module.table, std=std, a=-2 * std, b=2 * std)
        else:
            super()._init_weights(module)
            if getattr(module, "aggregation_token", None) is not None:
                std = module.aggregation_token.numel() ** -0.5 / 0.87962566103423978
                init.trunc_normal_(module.aggregation_token, std=std, a=-2 * std, b=2 * std)


class VattModalityModel(VattPreTrainedModel):
    """Base of the encoders of one modality: embeddings, encoder and, where the encoder is shared, a projection.

    Args:
        add_encoder: whether to make an encoder; a model without one gets it with every call.
    """

    encoder_class: type[VattEncoder] = VattEncoder
    _input_embed_layer = "patch_embedding"

    def __init__(self, config, add_encoder: bool = True):
        super().__init__(config)
        self.embeddings = self.make_embeddings(config)
        self.encoder = self.encoder_class(config) if add_encoder else None
        size = config.post_projection_size
        self.post_projection = nn.Linear(config.hidden_size, size) if size else None
        self.activation = ACT2FN[config.hidden_act]
        self.post_init()

    def make_embeddings(self, config) -> nn.Module:
        """Make the embeddings."""
        raise NotImplementedError

    def encode(self, tokens: torch.Tensor, encoder: VattEncoder | None, prefix_only: bool, **kwargs) -> EncoderOutput:
        """Return the output for tokens (batch, 1 + tokens, hidden_size); `pooler_output` is the aggregation token."""
        encoder = self.encoder if encoder is None else encoder
        if encoder is None:
            raise ValueError(f"this {type(self).__name__} was made without an encoder: pass it as encoder=...")
        hidden_states = encoder(tokens, num_queries=1 if prefix_only else None, **kwargs)
        if self.post_projection is not None:
            hidden_states = self.activation(self.post_projection(hidden_states))
        return EncoderOutput(last_hidden_state=hidden_states, pooler_output=hidden_states[:, 0])


# Fields that decide what an encoder computes, but no shape of its weights.
SAME_FIELDS = ("num_attention_heads", "hidden_act", "layer_norm_eps")


def shape_of(weights: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...] | None:
    """Return the shape of a weight, None if there is none of this name."""
    return tuple(weights[name].shape) if name in weights else None


class VattForClassification(ForClassification):
    """Mixin of classifiers with dropout on the pooled output."""

    def make_parts(self, config) -> None:
        super().make_parts(config)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)

    @torch.no_grad()
    def initialize_from(self, source: nn.Module) -> None:
        """Copy, in place, the encoder of the classified modality from a trained model; position tables are resized.

        Args:
            source: VATT of this modality, or of all modalities with an encoder for each or a shared one. Heads are not
                copied.

        Raises:
            ValueError: the source has no encoder of this modality, or one of other sizes.
        """
        base: Any = getattr(source, "model", source)
        name = self.config.model_type.rpartition("_")[2]
        part = getattr(base, f"{name}_model", base)
        if part.config.model_type != self.config.model_type:
            raise ValueError(
                f"a {type(self).__name__} starts from VATT of {name} or of all modalities, got a "
                f"{type(source).__name__}"
            )
        weights, encoder = part.state_dict(), base.encoder
        if part is not base and encoder is not None:
            weights |= encoder.state_dict(prefix="encoder.")
        trained = dict(part.named_modules())
        for prefix, module in self.model.named_modules():
            if isinstance(module, PositionEmbedding) and prefix in trained:
                old: Any = trained[prefix]
                table = interpolate_positions(old.table, old.grid, module.grid, module.interpolation)
                weights[f"{prefix}.table"] = table
        own = self.model.state_dict()
        wrong = [name for name in own.keys() | weights.keys() if shape_of(own, name) != shape_of(weights, name)]
        fields = [field for field in SAME_FIELDS if getattr(part.config, field) != getattr(self.config, field)]
        if wrong or fields:
            raise ValueError(
                f"the encoder of {name} to start from is another one than this: "
                f"{', '.join(fields + sorted(wrong)[:5])} differ; choose the same sizes by the configuration"
            )
        self.model.load_state_dict(weights)

    def classify(self, outputs: EncoderOutput, labels: torch.Tensor | None = None, **kwargs):
        outputs.pooler_output = self.dropout(outputs["pooler_output"])
        return super().classify(outputs, labels, **kwargs)


__all__ = ["VattEmbeddings", "VattEncoder", "VattForClassification", "VattModalityModel", "VattPreTrainedModel"]
