"""Locally-SAG: attention between shifted copies of the image at each position, then global attention.

Sheynin, Benaim, Polyak and Wolf, "Locally Shifted Attention With Early Global Integration", arXiv 2112.05080;
shellysheynin/Locally-SAG-Transformer (imagenet_model.py, cifar/cifar_model.py).
"""

from collections.abc import Callable

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.attention import Attention, attend
from ...layers.convolution import LayerNorm2d, to_map, to_tokens
from ...layers.mlp import MLP
from ...layers.patch import check_pixel_values
from ...layers.stages import Stage
from ...modeling import EncoderOutput, ForImageClassification, HierarchicalBackbone, VitsHierarchicalPreTrainedModel
from .configuration_locally_sag import LocallySagConfig

# (rows, columns) by which each copy of the image is shifted, down and to the right.
PADS = ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0), (1, 1), (2, 2), (3, 3))
ROLLS = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1), (2, 0), (0, 2), (-2, 0), (0, -2))
ROLLS += ((1, 1), (1, 2), (1, -1), (-1, 1), (-1, 2), (-1, -1), (2, 1), (2, 2), (2, -1))
SHIFTS = {"pad": PADS, "roll": ROLLS}


class LocallySagEmbeddings(nn.Module):
    """Patch embedding of the image and its shifted copies, with a separate projection for each copy."""

    def __init__(self, config: LocallySagConfig):
        super().__init__()
        self.num_channels = config.num_channels
        self.image_size = config.image_size
        self.shift_type = config.shift_type
        num_shifts = len(SHIFTS[config.shift_type])
        self.projection = nn.Conv2d(
            num_shifts * config.num_channels,
            num_shifts * config.hidden_sizes[0],
            kernel_size=config.patch_size,
            stride=config.patch_stride,
            padding=config.patch_padding,
            groups=num_shifts,
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, shifts * hidden_size, rows, columns)."""
        check_pixel_values(pixel_values, self.num_channels)
        if tuple(pixel_values.shape[-2:]) != (self.image_size, self.image_size):
            raise ValueError(
                f"the position tables are made for images of {self.image_size}x{self.image_size} pixels, got "
                f"{pixel_values.shape[-2]}x{pixel_values.shape[-1]}; resize the images, as the image processor does"
            )
        shift = continued if self.shift_type == "pad" else rolled
        copies = [shift(pixel_values, rows, columns) for rows, columns in SHIFTS[self.shift_type]]
        # With channels last, the channels of a token are contiguous in memory.
        copies = torch.cat(copies, dim=1).to(self.projection.weight.dtype, memory_format=torch.channels_last)
        return self.projection(copies)


def continued(images: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Pad the image circularly before, by up to 3 rows and columns, and with zeros after, by 3 in total."""
    images = nn.functional.pad(images, (columns, 0, rows, 0), mode="circular") if rows or columns else images
    return nn.functional.pad(images, (0, 3 - columns, 0, 3 - rows))


def rolled(images: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Roll images cyclically."""
    return images.roll((rows, columns), dims=(2, 3))


class LocallySagAttention(Attention):
    """Global self-attention; with `multi_query`, all heads share one key and one value head."""

    def __init__(self, config: LocallySagConfig, stage: int):
        hidden_size, num_heads = config.hidden_sizes[stage], config.num_attention_heads[stage]
        head_dim = hidden_size // num_heads
        super().__init__(config, head_dim**-0.5, config.attention_probs_dropout_prob)
        self.head_dim = head_dim
        self.num_heads = num_heads
        self.num_key_value_heads = 1 if config.multi_query else num_heads
        self.make_projections(hidden_size, 2 * self.num_key_value_heads * head_dim, config.qkv_bias)
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def make_projections(self, hidden_size: int, key_value_size: int, bias: bool) -> None:
        self.qkv = nn.Linear(hidden_size, hidden_size + key_value_size, bias=bias)

    def project(self, hidden_states: torch.Tensor, shifted: None) -> tuple[torch.Tensor, ...]:
        """Project (batch, tokens, hidden_size) to queries, keys and values (batch, heads, tokens, head_dim)."""
        counts = (self.num_heads, self.num_key_value_heads, self.num_key_value_heads)
        return self.split_heads(self.qkv(hidden_states)).split(counts, dim=1)

    def split_heads(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, channels) to (batch, heads, tokens, head_dim)."""
        return hidden_states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def forward(
        self, hidden_states: torch.Tensor, shifted: torch.Tensor | None = None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, tokens, hidden_size) to the same shape; also returns probabilities or None."""
        query, key, value = self.project(hidden_states, shifted)
        key, value = (part.expand(-1, self.num_heads, -1, -1) for part in (key, value))
        attended, probabilities = attend(self, query, key, value, **kwargs)
        return self.dropout(self.projection(attended.reshape(hidden_states.shape))), probabilities


class LocallyShiftedAttention(LocallySagAttention):
    """Attention from each position to the same position in all shifted copies (section 3.1 of the paper).

    The probabilities are (batch * positions, heads, 1, shifts).
    """

    def make_projections(self, hidden_size: int, key_value_size: int, bias: bool) -> None:
        self.query = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.key_value = nn.Linear(hidden_size, key_value_size, bias=bias)

    def project(self, hidden_states: torch.Tensor, shifted: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (batch, places, hidden_size) and (batch, places, shifts, hidden_size) to queries, keys and values.

        They are (batch * places, heads, 1 or shifts, head_dim).
        """
        query = self.split_heads(self.query(hidden_states).flatten(0, 1)[:, None])
        key_value = self.split_heads(self.key_value(shifted).flatten(0, 1))
        return query, *key_value.split(self.num_key_value_heads, dim=1)


class LocallySagLayer(GradientCheckpointingLayer):
    """Pre-norm layer; the norms are shared by all layers of a stage, and their bound calls passed to `forward`.

    The norms themselves cannot be passed: accelerate moves modules among the arguments to the device, which fails
    where their weights are offloaded.
    """

    def __init__(self, config: LocallySagConfig, stage: int, attention_class: type[LocallySagAttention]):
        super().__init__()
        hidden_size = config.hidden_sizes[stage]
        self.attention = attention_class(config, stage)
        intermediate_size = int(hidden_size * config.mlp_ratio)
        self.mlp = MLP(hidden_size, intermediate_size, config.hidden_act, config.hidden_dropout_prob)
        self.drop_path = StochasticDepth(config.drop_path_rate, mode="row")

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_norm: Callable,
        mlp_norm: Callable,
        shifted: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Map (batch, tokens, hidden_size) to the same shape; the first layer also attends to `shifted` tokens."""
        shifted = None if shifted is None else attention_norm(shifted)
        attended, _ = self.attention(attention_norm(hidden_states), shifted, **kwargs)
        hidden_states = hidden_states + self.drop_path(attended)
        return hidden_states + self.drop_path(self.mlp(mlp_norm(hidden_states)))


class LocallySagStage(Stage):
    """Stage: downsampling, except in the first stage, positions, and layers that share their norms."""

    def __init__(self, config: LocallySagConfig, stage: int):
        super().__init__()
        hidden_size, num_tokens = config.hidden_sizes[stage], config.grid_sizes[stage] ** 2
        self.downsampling = None
        if stage:
            self.downsampling = nn.Sequential(
                nn.Conv2d(config.hidden_sizes[stage - 1], hidden_size, 3, padding=1),
                LayerNorm2d(hidden_size, eps=config.layer_norm_eps),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        num_shifts = [] if stage else [len(SHIFTS[config.shift_type])]
        self.position_embeddings = nn.Parameter(torch.zeros(*num_shifts, num_tokens, hidden_size))
        self.attention_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        attention_classes = [LocallySagAttention] * config.depths[stage]
        if stage == 0:
            attention_classes[0] = LocallyShiftedAttention
        self.layers = nn.ModuleList(
            LocallySagLayer(config, stage, attention_class) for attention_class in attention_classes
        )

    def forward(self, hidden_states: torch.Tensor, shifted: torch.Tensor | None = None, **kwargs) -> torch.Tensor:
        """Map (batch, channels, height, width) to the stage's feature map.

        Args:
            shifted: feature maps of all shifted copies (batch, shifts * channels, height, width), in the first stage.
        """
        if self.downsampling is not None:
            hidden_states = self.downsampling(hidden_states)
        positions = self.position_embeddings
        if shifted is not None:
            shifted = to_tokens(shifted).unflatten(-1, (len(positions), -1)) + positions.transpose(0, 1)
            positions = positions[0]
        grid = tuple(hidden_states.shape[-2:])
        tokens = to_tokens(hidden_states) + positions
        for layer in self.layers:
            # Positional arguments, since gradient checkpointing handles no keyword arguments.
            norms = (self.attention_norm.__call__, self.mlp_norm.__call__)
            tokens = layer(tokens, *norms, shifted, **kwargs)
            shifted = None
        return to_map(tokens, grid)


class LocallySagPreTrainedModel(VitsHierarchicalPreTrainedModel):
    config_class = LocallySagConfig
    _no_split_modules = ["LocallySagStage"]

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, LocallySagStage):
            init.trunc_normal_(module.position_embeddings, std=0.02)
        elif isinstance(module, nn.Conv2d):
            init.trunc_normal_(module.weight, std=0.02)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class LocallySagModel(LocallySagPreTrainedModel):
    """Locally-SAG encoder. `pooler_output` is the mean of the tokens.

    Args:
        add_pooling_layer: whether the final norm exists and `pooler_output` is computed.
    """

    _input_embed_layer = "projection"

    def __init__(self, config: LocallySagConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = LocallySagEmbeddings(config)
        self.stages = nn.ModuleList(LocallySagStage(config, stage) for stage in range(len(config.depths)))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if add_pooling_layer else None
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> EncoderOutput:
        """Encode images.

        Args:
            pixel_values: (batch, num_channels, image_size, image_size), normalised by the image processor.
        """
        shifted = self.embeddings(pixel_values)
        first_stage, *stages = self.stages
        hidden_states = first_stage(shifted[:, : self.config.hidden_sizes[0]], shifted, **kwargs)
        for stage in stages:
            hidden_states = stage(hidden_states, **kwargs)
        return self.normed_and_pooled(to_tokens(hidden_states))


class LocallySagForImageClassification(ForImageClassification, LocallySagPreTrainedModel):
    """Locally-SAG with a linear classifier on its pooled output."""

    model_class = LocallySagModel


class LocallySagBackbone(HierarchicalBackbone, LocallySagPreTrainedModel):
    """Locally-SAG that returns the feature map of each stage, for detection and segmentation heads."""

    model_class = LocallySagModel


__all__ = ["LocallySagBackbone", "LocallySagForImageClassification", "LocallySagModel", "LocallySagPreTrainedModel"]
