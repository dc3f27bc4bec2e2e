"""DVT: several transformers of growing numbers of tokens, run in turn until one is confident.

Wang et al., "Not All Images are Worth 16x16 Words: Dynamic Transformers for Efficient Image Recognition", arXiv
2105.15075; blackfeather-wang/Dynamic-Vision-Transformer (models/t2t_vit.py, models/transformer_block.py,
models_deit.py, timm/models/vision_transformer.py, inference.py). The networks are T2T-ViTs or DeiTs. Each reuses the
tokens and the attention scores of the network before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import ModelOutput
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...configuration import pair
from ...layers.attention import SelfAttention, SplitHeads, attend
from ...layers.mlp import MLP
from ...layers.patch import check_pixel_values
from ...layers.position import PositionEmbedding
from ...layers.transformer import TransformerLayer, drop_path_rates
from ...modeling import (
    ClassifierOutput,
    EncoderOutput,
    ForImageClassification,
    IsotropicBackbone,
    classification_loss,
    recorded_states,
)
from ..t2t.modeling_t2t import T2TEmbeddings, T2TPreTrainedModel
from .configuration_dvt import DvtConfig
from .exits_dvt import choose_exits, confidence
from .reuse_dvt import Grid, NetworkState, RelationReuse, enlarge, enlarge_scores


@dataclass
class DvtModelOutput(EncoderOutput):
    """Output of `DvtModel`. The fields of `EncoderOutput` are of the last network, and:

    exit_pooler_outputs: (batch, exits, hidden_size), normed class tokens of all networks.
    """

    exit_pooler_outputs: torch.Tensor | None = None


@dataclass
class DvtClassifierOutput(ClassifierOutput):
    """Output of `DvtForImageClassification`.

    logits: (batch, num_labels) of the last exit; with thresholds, of the exit at which each image leaves.
    exit_logits: (batch, exits, num_labels) of all exits; None where only the needed ones were computed.
    exits: (batch,) with thresholds, index of the exit at which each image leaves, 0 for the first.
    """

    exit_logits: torch.Tensor | None = None
    exits: torch.Tensor | None = None


@dataclass
class DvtAdaptiveOutput(ModelOutput):
    """Output of `DvtForImageClassification.adaptive`.

    logits: (batch, num_labels) of the exit at which each image leaves.
    exits: (batch,), index of this exit, 0 for the first.
    """

    logits: torch.Tensor | None = None
    exits: torch.Tensor | None = None


class DvtPatchEmbeddings(nn.Module):
    """Patches by one convolution, class token and learned positions; pixels that fill no patch are left out."""

    def __init__(self, config: DvtConfig, split: tuple[int, int, int]):
        super().__init__()
        self.num_channels = config.num_channels
        self.kernel_size, self.stride, self.padding = split
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, *split)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        grid = self.grid(*pair(config.image_size))
        self.position_embedding = PositionEmbedding(grid, config.hidden_size, num_prefix_tokens=1)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def grid(self, height: int, width: int) -> Grid:
        """Return (height, width) in tokens of an image; ValueError for one that is too small."""
        smallest = max(self.kernel_size - 2 * self.padding, 1)
        if min(height, width) < smallest:
            raise ValueError(
                f"an image of {height}x{width} pixels is too small for patches of {self.kernel_size}x"
                f"{self.kernel_size} pixels with padding {self.padding}: both sides must be at least {smallest}"
            )
        rows, columns = ((size + 2 * self.padding - self.kernel_size) // self.stride + 1 for size in (height, width))
        return rows, columns

    def forward(self, pixel_values: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, 1 + tokens, hidden_size)."""
        check_pixel_values(pixel_values, self.num_channels)
        grid = self.grid(*pixel_values.shape[-2:])
        tokens = self.projection(pixel_values.to(self.projection.weight.dtype)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.dropout(tokens + self.position_embedding(grid))


class DvtAttention(SelfAttention):
    """Self-attention that can return its scores."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        keep_scores: bool = False,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Compute self-attention.

        Args:
            hidden_states: (batch, tokens, hidden_size).
            attention_mask: reused scores (batch, heads, tokens, tokens), or None.
            keep_scores: whether to return the scores before the softmax; then they are computed one by one, whatever
                the attention implementation.

        Returns:
            (batch, tokens, hidden_size); the probabilities, None unless the implementation is eager; and the scores
            (batch, heads, tokens, tokens), with the reused ones added, or None.
        """
        query, key, value = self.split(self.qkv(hidden_states))
        if keep_scores:
            scores = torch.matmul(query * self.scaling, key.transpose(-2, -1))
            scores = scores if attention_mask is None else scores + attention_mask
            probabilities = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
            dropped = nn.functional.dropout(probabilities, self.attention_dropout, self.training)
            attended = torch.matmul(dropped, value).transpose(1, 2)
        else:
            scores = None
            attended, probabilities = attend(self, query, key, value, attention_mask, **kwargs)
        return self.dropout(self.projection(attended.flatten(2))), probabilities, scores


class DvtLayer(TransformerLayer):
    """Transformer layer that adds reused attention scores to its own, and can return the sum."""

    attention_class = DvtAttention

    def forward(
        self,
        hidden_states: torch.Tensor,
        reused_scores: torch.Tensor | None = None,
        reused_tokens: torch.Tensor | None = None,
        grids: tuple[Grid, Grid] | None = None,
        keep_scores: bool = False,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map tokens (batch, 1 + tokens, hidden_size) to the same shape.

        Args:
            reused_scores: from the network before, (batch, heads, 1 + its tokens, 1 + its tokens); None for none.
            reused_tokens: last tokens of the network before, (batch, 1 + its tokens, hidden_size); None for none.
            grids: (rows, columns) of the tokens of the network before and of this one.
            keep_scores: whether the attention scores are returned.

        Returns:
            The tokens, and the scores (batch, heads, 1 + tokens, 1 + tokens) or None.
        """
        bias = None if reused_scores is None else enlarge_scores(reused_scores, *grids)
        attended, _, scores = self.attention(self.attention_norm(hidden_states), bias, keep_scores, **kwargs)
        hidden_states = hidden_states + self.finish_branch(attended, None)
        mlp_input = hidden_states
        if reused_tokens is not None:
            mlp_input = torch.cat([hidden_states, self.reused_features(reused_tokens, *grids)], dim=-1)  # pyright: ignore[reportCallIssue]
        return hidden_states + self.mlp_branch(mlp_input), scores


class DvtReuseLayer(DvtLayer):
    """Transformer layer whose MLP also reads features made from the tokens of the network before."""

    def make_feed_forward(self, config: DvtConfig) -> None:
        width, dropout = config.hidden_size + config.reused_size, config.hidden_dropout_prob
        self.mlp_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act, dropout, config.hidden_size)
        self.mlp_scale = None
        self.reuse_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        sizes = config.hidden_size, config.reuse_intermediate_size, config.hidden_act, dropout, config.reused_size
        self.reuse_mlp = MLP(*sizes)

    def reused_features(self, reused_tokens: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
        """Return the features (batch, 1 + tokens, reused_size) of reused tokens, zero for the class token."""
        features = self.reuse_mlp(self.reuse_norm(reused_tokens[:, 1:]))
        return nn.functional.pad(enlarge(features, old, new), (0, 0, 1, 0))


class DvtNetwork(nn.Module):
    """One of DVT's transformers.

    Args:
        index: number of the network, from 0; the first reuses nothing.
    """

    def __init__(self, config: DvtConfig, index: int):
        super().__init__()
        split = config.kernel_sizes[index], config.strides[index], config.paddings[index]
        self.embeddings = (T2TEmbeddings if config.stem == "t2t" else DvtPatchEmbeddings)(config, split)
        self.reuses_features = index > 0 and config.feature_reuse
        self.relation_reuse = RelationReuse(config) if index > 0 and config.relation_reuse else None
        rates = drop_path_rates(config.drop_path_rate, config.num_hidden_layers)
        layer_class = DvtReuseLayer if self.reuses_features else DvtLayer
        self.layers = nn.ModuleList(layer_class(config, rate) for rate in rates)
        if config.attention_scale is not None:
            layers: Any = self.layers
            for layer in layers:
                layer.attention.scaling = config.attention_scale
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.num_layers = config.num_hidden_layers

    def forward(
        self, pixel_values: torch.Tensor, previous: NetworkState | None = None, keep_scores: bool = False, **kwargs
    ) -> NetworkState:
        """Encode images (batch, num_channels, height, width).

        Args:
            previous: state of the network before; None for the first network.
            keep_scores: whether the next network reuses this one's attention scores.
        """
        hidden_states = self.embeddings(pixel_values, **kwargs)
        grid = self.embeddings.grid(*pixel_values.shape[-2:])
        grids = None if previous is None else (previous.grid, grid)
        tokens = previous.tokens if self.reuses_features else None
        reused = (None,) * self.num_layers
        if self.relation_reuse is not None:
            reused = self.relation_reuse(previous.scores)
        kept = []
        # Tensors are positional, since reentrant gradient checkpointing sees no others.
        for layer, scores in zip(self.layers, reused, strict=True):
            hidden_states, own = layer(hidden_states, scores, tokens, grids=grids, keep_scores=keep_scores, **kwargs)
            kept.append(own)
        return NetworkState(hidden_states, tuple(kept) if keep_scores else (), grid)

    def pool(self, state: NetworkState) -> torch.Tensor:
        """Return the normed class token (batch, hidden_size)."""
        return self.norm(state.tokens[:, 0])


def require_grad(module: nn.Module, arguments: tuple, output: torch.Tensor) -> None:
    """Make a module's output require gradients; a forward hook."""
    output.requires_grad_(True)


class DvtPreTrainedModel(T2TPreTrainedModel):
    config_class = DvtConfig
    _no_split_modules = ["T2TTokenLayer", "DvtLayer", "DvtReuseLayer"]
    _supports_flash_attn = False  # flash attention supports no bias
    # Of the last network, whose tokens are `last_hidden_state`.
    _can_record_outputs = {
        "hidden_states": OutputRecorder(TransformerLayer, layer_name="last_network"),
        "attentions": OutputRecorder(SelfAttention, index=1, layer_name="last_network"),
        "query_states": OutputRecorder(SplitHeads, index=0, layer_name="last_network"),
        "key_states": OutputRecorder(SplitHeads, index=1, layer_name="last_network"),
        "value_states": OutputRecorder(SplitHeads, index=2, layer_name="last_network"),
    }

    def enable_input_require_grads(self) -> None:
        """Let gradients begin at the embeddings of every network, as reentrant gradient checkpointing needs.

        transformers knows the input embeddings of the last network alone.
        """
        super().enable_input_require_grads()
        base_model: Any = self.base_model
        for network in base_model.networks[:-1]:
            hook = network.embeddings.projection.register_forward_hook(require_grad)
            self._require_grads_hooks.append(hook)


class DvtModel(DvtPreTrainedModel):
    """DVT encoder: all networks, one after the other. `pooler_output` is the last network's class token.

    Args:
        add_pooling_layer: whether `pooler_output` and `exit_pooler_outputs` are computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: DvtConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        *early, last = range(config.num_exits)
        self.early_networks = nn.ModuleList(DvtNetwork(config, index) for index in early)
        self.last_network = DvtNetwork(config, last)
        self.add_pooling_layer = add_pooling_layer
        self.post_init()

    @property
    def embeddings(self) -> nn.Module:
        """Embeddings of the last network."""
        return self.last_network.embeddings

    @property
    def norm(self) -> nn.Module:
        """Final norm of the last network."""
        return self.last_network.norm

    @property
    def networks(self) -> list[DvtNetwork]:
        """All networks, in their order."""
        early: Any = self.early_networks
        return [*early, self.last_network]

    def run(self, index: int, pixel_values: torch.Tensor, state: NetworkState | None, **kwargs) -> NetworkState:
        """Run one network on images, given the state of the network before it on the same images."""
        keep_scores = self.config.relation_reuse and index < self.config.num_exits - 1
        return self.networks[index](pixel_values, state, keep_scores, **kwargs)

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> DvtModelOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
        """
        state, pooled = None, []
        for index, network in enumerate(self.networks):
            state = self.run(index, pixel_values, state, **kwargs)
            if self.add_pooling_layer:
                pooled.append(network.pool(state))
        return DvtModelOutput(
            last_hidden_state=self.norm(state.tokens),
            pooler_output=pooled[-1] if pooled else None,
            exit_pooler_outputs=torch.stack(pooled, dim=1) if pooled else None,
        )


class DvtClassifier(nn.Module):
    """One linear classifier per exit."""

    def __init__(self, config: DvtConfig):
        super().__init__()
        self.exits = nn.ModuleList(nn.Linear(config.hidden_size, config.num_labels) for _ in range(config.num_exits))

    def forward(self, pooled: torch.Tensor, index: int) -> torch.Tensor:
        """Map the class token (batch, hidden_size) of an exit to its logits (batch, num_labels)."""
        return self.exits[index](pooled)


class DvtForImageClassification(ForImageClassification, DvtPreTrainedModel):
    """DVT with a linear classifier on the class token of each network."""

    model_class = DvtModel

    @staticmethod
    def make_classifier(config: DvtConfig) -> nn.Module:
        return DvtClassifier(config)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> DvtClassifierOutput:
        """Classify images.

        With `config.exit_thresholds`, in eval mode and without labels, an image passes only the networks up to its
        exit, as in `adaptive`.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            labels: (batch,) class indices, or (batch, num_labels) for regression and multi-label problems. The loss is
                the sum of the losses of all exits (main.py of the original).
        """
        if self.skips_networks(labels, kwargs):
            return DvtClassifierOutput(**self.adaptive(pixel_values))
        outputs = self.encode(pixel_values, **kwargs)
        logits = self.classify_exits(outputs.exit_pooler_outputs)  # pyright: ignore[reportAttributeAccessIssue]
        loss = None
        if labels is not None:
            loss = sum(classification_loss(self, labels, own, **kwargs) for own in logits.unbind(1))
        exits, chosen = None, logits[:, -1]
        if self.config.exit_thresholds is not None and not self.training:
            exits = choose_exits(confidence(logits.transpose(0, 1)), self.thresholds(None))
            chosen = logits[torch.arange(len(logits), device=logits.device), exits]
        return DvtClassifierOutput(
            loss=loss, logits=chosen, exit_logits=logits, exits=exits, **recorded_states(outputs)
        )

    def classify_exit(self, pooled: torch.Tensor, index: int) -> torch.Tensor:
        """Return the logits of one exit; without classifier (num_labels=0), its class token."""
        return self.classifier(pooled, index) if self.config.num_labels else pooled

    def classify_exits(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map class tokens (batch, exits, hidden_size) to logits (batch, exits, num_labels)."""
        tokens = enumerate(pooled.unbind(1))
        return torch.stack([self.classify_exit(token, index) for index, token in tokens], dim=1)

    def classify_all(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, exits, num_labels) of all exits, whatever thresholds are set."""
        return self.classify_exits(self.model(pixel_values, return_dict=True).exit_pooler_outputs)

    def skips_networks(self, labels: torch.Tensor | None, kwargs: dict) -> bool:
        """Return whether images may leave early: thresholds are set, and nothing else needs all networks."""
        if self.config.exit_thresholds is None or self.training or labels is not None:
            return False
        flags = (f"output_{name}" for name in self._can_record_outputs)
        recorded = any(kwargs.get(flag, getattr(self.config, flag, False)) for flag in flags)
        # Which images go on depends on values, so no graph can be traced.
        return not recorded and not torch.compiler.is_compiling()

    def thresholds(self, given: Sequence[float] | torch.Tensor | None) -> torch.Tensor:
        """Return thresholds (exits,) or (exits - 1,): the given ones, or those of the configuration."""
        thresholds = self.config.exit_thresholds if given is None else given
        if thresholds is None:
            raise ValueError(
                "there are no thresholds: pass them, or find them on a calibration set with `hf-vits evaluate MODEL "
                "DATA --method exits --budget ... --save`, which sets config.exit_thresholds"
            )
        self.config.check_thresholds(len(thresholds))
        return torch.as_tensor(thresholds, dtype=torch.float32)

    def adaptive(
        self, pixel_values: torch.Tensor, thresholds: Sequence[float] | torch.Tensor | None = None
    ) -> DvtAdaptiveOutput:
        """Classify images, each by the first network whose confidence reaches its threshold.

        Images that have left are taken out of the batch, so that later networks compute the remaining ones alone.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            thresholds: confidence with which an image leaves, for each exit or for all but the last; None for
                `config.exit_thresholds`.
        """
        check_pixel_values(pixel_values, self.config.num_channels)
        limits = self.thresholds(thresholds).tolist()
        remaining = torch.arange(len(pixel_values), device=pixel_values.device)
        state, last = None, self.config.num_exits - 1
        order, found, exits = [], [], []
        for index, network in enumerate(self.model.networks):
            state = self.model.run(index, pixel_values, state)
            logits = self.classify_exit(network.pool(state), index)
            leaves = torch.ones_like(remaining, dtype=torch.bool)
            if index < last:
                leaves = confidence(logits) >= limits[index]
            order.append(remaining[leaves])
            found.append(logits[leaves])
            exits.append(torch.full_like(order[-1], index))
            (stay,) = (~leaves).nonzero(as_tuple=True)
            if len(stay) == 0:
                break
            if len(stay) < len(remaining):
                remaining, pixel_values, state = remaining[stay], pixel_values[stay], state.select(stay)
        back = torch.cat(order).argsort()
        return DvtAdaptiveOutput(logits=torch.cat(found)[back], exits=torch.cat(exits)[back])


class DvtBackbone(IsotropicBackbone, DvtPreTrainedModel):
    """DVT that returns feature maps of its last network, for detection and segmentation heads."""

    model_class = DvtModel


__all__ = ["DvtBackbone", "DvtForImageClassification", "DvtModel", "DvtPreTrainedModel"]
