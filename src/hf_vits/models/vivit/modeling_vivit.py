"""ViViT: video vision transformers with joint or factorised attention over space and time.

Arnab et al., "ViViT: A Video Vision Transformer", arXiv 2103.15691; google-research/scenic (projects/vivit/model.py,
model_utils.py).
"""

import math

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from ...configuration import pair
from ...layers.frames import sample_uniformly, uniform_frames
from ...layers.label_heads import joint_scores, multi_head_cross_entropy
from ...layers.mlp import MLP
from ...layers.patch import TubeletEmbedding, check_pixel_values
from ...layers.position import PositionEmbedding
from ...layers.transformer import TransformerLayer, UnscaledStochasticDepth, drop_path_rates
from ...modeling import (
    EncoderOutput,
    ForImageClassification,
    VitsPreTrainedModel,
    init_as_flax,
    only_pooled_is_read,
    part_of_batch,
)
from .attention_vivit import SpaceAttention, SpaceTimeAttention, TimeAttention
from .configuration_vivit import VivitConfig
from .initialization_vivit import initialize_from


class VivitEmbeddings(nn.Module):
    """Embedding of tubelets of a clip, or of patches of sampled frames."""

    def __init__(self, config: VivitConfig):
        super().__init__()
        self.num_sampled_frames = config.num_sampled_frames
        self.tubelet_embedding = TubeletEmbedding(config.num_channels, config.hidden_size, tuple(config.tubelet_size))
        num_frames = config.num_frames
        if self.num_sampled_frames is not None:
            num_frames = len(uniform_frames(num_frames, self.num_sampled_frames))
        self.grid = self.tubelet_embedding.grid(num_frames, *pair(config.image_size))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, frames, num_channels, height, width) to (batch, frames, rows, columns, hidden_size)."""
        if self.num_sampled_frames is not None:
            check_pixel_values(pixel_values, self.tubelet_embedding.num_channels, clips=True)
            pixel_values = sample_uniformly(pixel_values, self.num_sampled_frames)
        return self.tubelet_embedding(pixel_values)


class VivitLayer(TransformerLayer):
    """Transformer layer with joint attention and the original's stochastic depth."""

    def __init__(self, config: VivitConfig, drop_path_rate: float = 0.0):
        super().__init__(config, drop_path_rate)
        self.drop_path = UnscaledStochasticDepth(drop_path_rate)


class VivitFrameLayer(VivitLayer):
    """Transformer layer with attention within frames; stochastic depth drops all frames of a clip together."""

    attention_class = SpaceAttention


class VivitDotProductLayer(VivitLayer):
    """Transformer layer in which half of the heads attend within frames, half across (section 3.3, model 4)."""

    attention_class = SpaceTimeAttention


class VivitSelfAttentionLayer(GradientCheckpointingLayer):
    """Pre-norm layer with an attention within frames, an attention across frames and an MLP (section 3.3, model 3).

    As in the original, `drop_path_rate` is accepted but not used.
    """

    def __init__(self, config: VivitConfig, drop_path_rate: float = 0.0):
        super().__init__()
        self.axes = config.attention_order.split("_")
        for axis, attention_class in {"time": TimeAttention, "space": SpaceAttention}.items():
            setattr(self, f"{axis}_norm", nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps))
            attention = attention_class(
                config,
                config.hidden_size,
                config.num_attention_heads,
                qkv_bias=config.qkv_bias,
                attention_dropout=config.attention_probs_dropout_prob,
                projection_dropout=config.hidden_dropout_prob,
            )
            setattr(self, f"{axis}_attention", attention)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.hidden_act, config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map (batch, frames, places, hidden_size) to the same shape."""
        for axis in self.axes:
            norm, attention = getattr(self, f"{axis}_norm"), getattr(self, f"{axis}_attention")
            attended, _ = attention(norm(hidden_states), **kwargs)
            hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


LAYERS = {
    "spacetime": VivitLayer,
    "factorized_encoder": VivitFrameLayer,
    "factorized_self_attention": VivitSelfAttentionLayer,
    "factorized_dot_product": VivitDotProductLayer,
}


class VivitEncoder(nn.Module):
    """Encoder: optional class token, positions, layers and a norm.

    Args:
        grid: (frames, height, width) of tokens, or (height, width) of the tokens of a frame, or (frames,).
    """

    def __init__(self, config: VivitConfig, layer_class: type[nn.Module], num_layers: int, grid: tuple[int, ...]):
        super().__init__()
        has_token = config.pooling == "token"
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size)) if has_token else None
        self.position_embedding = PositionEmbedding(grid, config.hidden_size, int(has_token), "bilinear_aligned")
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        rates = drop_path_rates(config.drop_path_rate, num_layers)
        self.layers = nn.ModuleList(layer_class(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, hidden_states: torch.Tensor, grid: tuple[int, ...], num_queries: int | None = None, **kwargs
    ) -> torch.Tensor:
        """Encode tokens.

        Args:
            hidden_states: (batch, tokens, hidden_size) or (batch, frames, tokens of a frame, hidden_size).
            grid: sizes along the axes that the encoder is made for.
            num_queries: number of first tokens that the last layer computes; None for all.

        Returns:
            As `hidden_states`, with the class token first; with `num_queries`, only the first tokens.
        """
        hidden_states = self.add_positions(hidden_states, grid)
        *layers, last_layer = self.layers
        for layer in layers:
            hidden_states = layer(hidden_states, **kwargs)
        if num_queries is not None:
            kwargs["num_queries"] = num_queries
        return self.norm(last_layer(hidden_states, **kwargs))

    def add_positions(self, hidden_states: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
        """Add positions and prepend the class token."""
        positions = self.position_embedding(grid)
        if self.class_token is not None:
            prefix = self.class_token + positions[:, :1]
            positions = positions[:, 1:]
        # The table is for all frames of a clip, one after another, or for one frame and then shared by all.
        hidden_states = hidden_states + positions.view(-1, *hidden_states.shape[-2:])
        if self.class_token is not None:
            prefix = prefix.expand(*hidden_states.shape[:-2], -1, -1)
            hidden_states = torch.cat([prefix, hidden_states], dim=-2)
        return self.dropout(hidden_states)


def pool(tokens: torch.Tensor, pooling: str) -> torch.Tensor:
    """Map (..., tokens, channels) to (..., channels); `pooling` as in the configuration."""
    if pooling == "mean":
        return tokens.mean(dim=-2)
    if pooling == "max":
        return tokens.amax(dim=-2)
    if pooling == "sum":
        return tokens.sum(dim=-2)
    return tokens[..., 0, :]


class VivitPooler(nn.Module):
    """Pooling of tokens, then the representation layer, if there is one."""

    def __init__(self, config: VivitConfig):
        super().__init__()
        self.pooling = "mean" if config.averages_frames else config.pooling
        size = config.representation_size
        self.representation = nn.Linear(config.hidden_size, size) if size is not None else None

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to (batch, channels)."""
        pooled = pool(hidden_states, self.pooling)
        return pooled if self.representation is None else self.representation(pooled).tanh()


class VivitPreTrainedModel(VitsPreTrainedModel):
    config_class = VivitConfig
    input_modalities = ("video",)
    _no_split_modules = ["VivitLayer", "VivitFrameLayer", "VivitDotProductLayer", "VivitSelfAttentionLayer"]
    _can_record_outputs = VitsPreTrainedModel._can_record_outputs | {
        "hidden_states": OutputRecorder(GradientCheckpointingLayer, num_hidden_layers_key="num_layers")
    }

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as the Flax original: Xavier in the encoders, LeCun elsewhere, the classifier at zero."""
        pooler = getattr(self, "pooler", None)
        if getattr(module, "is_fused", False):
            bound = math.sqrt(6 / (2 * module.in_features))
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and module is getattr(self, "classifier", None):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Conv3d) or (pooler is not None and module is pooler.representation):
            init_as_flax(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = math.sqrt(6 / (getattr(module, "fan_in", module.in_features) + module.out_features))
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.normal_(module.bias, std=1e-6)
        elif isinstance(module, PositionEmbedding):
            init.normal_(module.table, std=0.02)
        elif isinstance(module, VivitEncoder):
            if module.class_token is not None:
                init.zeros_(module.class_token)
        else:
            super()._init_weights(module)

    initialize_from = initialize_from


class VivitModel(VivitPreTrainedModel):
    """ViViT encoder.

    `last_hidden_state` contains one token per frame for a factorised encoder, otherwise all tubelets, frame by frame.
    With factorised attention, `hidden_states` are (batch, frames, tokens of a frame, hidden_size).

    Args:
        add_pooling_layer: whether `pooler_output` is computed.
    """

    _input_embed_layer = "tubelet_embedding"

    def __init__(self, config: VivitConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = VivitEmbeddings(config)
        frames, *frame_grid = self.embeddings.grid
        is_factorized = config.attention_type == "factorized_encoder"
        grid = tuple(frame_grid) if is_factorized else self.embeddings.grid
        self.encoder = VivitEncoder(config, LAYERS[config.attention_type], config.num_hidden_layers, grid)
        self.temporal_encoder = None
        if is_factorized and not config.averages_frames:
            self.temporal_encoder = VivitEncoder(config, VivitLayer, config.num_temporal_layers, (frames,))
        self.pooler = VivitPooler(config) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        prefix_only: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Encode clips.

        Args:
            pixel_values: (batch, frames, num_channels, height, width), normalised by the video processor.
            prefix_only: compute only the first token of `last_hidden_state`, which saves most of the last layer's
                operations.
        """
        hidden_states = self.embeddings(pixel_values)
        grid, hidden_states = tuple(hidden_states.shape[1:4]), hidden_states.flatten(2, 3)
        num_queries = 1 if prefix_only else None
        if self.config.attention_type == "factorized_encoder":
            hidden_states = self.encode_frames(hidden_states, grid, **kwargs)
            if self.temporal_encoder is not None:
                hidden_states = self.temporal_encoder(hidden_states, grid[:1], num_queries, **kwargs)
        elif self.config.attention_type == "spacetime":
            hidden_states = self.encoder(hidden_states.flatten(1, 2), grid, num_queries, **kwargs)
        else:
            hidden_states = self.encoder(hidden_states, grid, **kwargs).flatten(1, 2)
        pooled = self.pooler(hidden_states) if self.pooler is not None else None
        return EncoderOutput(last_hidden_state=hidden_states, pooler_output=pooled)

    def encode_frames(self, hidden_states: torch.Tensor, grid: tuple[int, int, int], **kwargs) -> torch.Tensor:
        """Map (batch, frames, tokens of a frame, hidden_size) to a vector per frame, (batch, frames, hidden_size)."""
        num_queries = 1 if self.pools_one_token(self.encoder, kwargs) else None
        return pool(self.encoder(hidden_states, grid[1:], num_queries, **kwargs), self.config.pooling)

    def pools_one_token(self, encoder: VivitEncoder, kwargs: dict) -> bool:
        """Return whether the last layer of `encoder` may leave out all tokens but the first, which is pooled."""
        pools_token = self.config.pooling in ("token", "first")
        return pools_token and only_pooled_is_read(self, encoder.layers[-1], kwargs)


class VivitForVideoClassification(ForImageClassification, VivitPreTrainedModel):
    """ViViT with a linear classifier on its pooled output.

    `pixel_values` are (batch, frames, num_channels, height, width). With `config.head_sizes` there are several heads:
    `logits` are the concatenated logits of all heads, `labels` are class indices (batch, heads) or probabilities
    (batch, num_labels), and the loss is averaged over the heads.
    """

    model_class = VivitModel

    def __init__(self, config: VivitConfig):
        super().__init__(config)
        if config.head_sizes is not None:
            self.loss_function = loss_of_heads

    def encode(self, pixel_values: torch.Tensor | None, **kwargs) -> EncoderOutput:
        last_encoder = self.model.encoder if self.model.temporal_encoder is None else self.model.temporal_encoder
        prefix_only = self.model.pools_one_token(last_encoder, kwargs)
        return self.model(pixel_values, prefix_only=prefix_only, return_dict=True, **kwargs)

    def joint_scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the probability of every combination of the heads' classes, such as an action's noun and verb.

        Returns:
            (batch, prod(config.head_sizes)); for two heads, classes a and b have index `a * head_sizes[1] + b`.
        """
        if self.config.head_sizes is None:
            raise ValueError("the model has one head: its scores are logits.softmax(-1)")
        return joint_scores(logits, self.config.head_sizes)


def loss_of_heads(labels: torch.Tensor, logits: torch.Tensor, config: VivitConfig, **kwargs) -> torch.Tensor:
    """Compute the loss of several heads, in the form of a transformers `loss_function`."""
    return part_of_batch(multi_head_cross_entropy(logits, labels, config.head_sizes), labels, **kwargs)


__all__ = ["VivitForVideoClassification", "VivitModel", "VivitPreTrainedModel"]
