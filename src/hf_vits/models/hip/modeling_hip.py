"""HiP: attention from learned latents to inputs in groups, which merge block by block and are divided again.

Carreira et al., "HiP: Hierarchical Perceiver", arXiv 2202.10890; google-deepmind/hierarchical_perceiver (perceiver.py,
perceiver_blocks.py, perceiver_helpers.py). Masked auto-encoding and classification have no original code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput
from transformers.utils.generic import TransformersKwargs, can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from ...layers.attention import Attention, SelfAttention, attend
from ...layers.mlp import MLP
from ...layers.stages import Stage
from ...layers.transformer import UnscaledStochasticDepth
from ...modeling import (
    ClassifierOutput,
    EncoderOutput,
    ForClassification,
    VitsHierarchicalPreTrainedModel,
    init_as_flax,
)
from .configuration_hip import IMAGE, WAVEFORM, HipConfig
from .grouping_hip import Concatenation, Grouping, regroup

Values = dict[str, torch.Tensor]


@dataclass
class HipOutput(EncoderOutput):
    """Output of HiP, with the entries of `EncoderOutput` and:

    reconstruction: {modality: (batch, index, channels)}, of all modalities, read at their positions.
    latents: {modality: (batch, latents, channels)}, those of the last block in the groups of each modality that is no
        label. As in the original, the padding of the inputs is cut off of the latents as well.
    """

    reconstruction: Values | None = None
    latents: Values | None = None


@dataclass
class HipPreTrainingOutput(ModelOutput):
    """Output of masked auto-encoding.

    loss: scalar, mean over the modalities of the squared error of what was hidden.
    reconstruction: {modality: (batch, index, channels)}.
    mask: {modality: (batch, index)}, 1 where the values were hidden, else 0.
    last_hidden_state, pooler_output, hidden_states, attentions: as in `HipOutput`.
    """

    loss: torch.Tensor | None = None
    reconstruction: Values | None = None
    mask: Values | None = None
    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class HipTable(nn.Module):
    """Learned vectors (rows, channels): positions of a modality, or the queries that become latents."""

    def __init__(self, rows: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, channels))

    def forward(self) -> torch.Tensor:
        """Return (1, rows, channels)."""
        return self.weight[None]


class HipAttention(Attention):
    """Softmax attention from queries to inputs of another width, which is also the width of all heads together."""

    def __init__(self, config: HipConfig, query_size: int, input_size: int, num_heads: int):
        super().__init__(config, (input_size // num_heads) ** -0.5)
        self.num_heads = num_heads
        self.query = nn.Linear(query_size, input_size)
        self.key_value = nn.Linear(input_size, 2 * input_size)
        self.projection = nn.Linear(input_size, query_size)

    def forward(
        self, queries: torch.Tensor, inputs: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend inside each group.

        Args:
            queries: (batch or 1, groups, queries, query_size).
            inputs: (batch, groups, length, input_size).

        Returns:
            (batch, groups, queries, query_size), and the probabilities (batch * groups, heads, queries, length), None
            unless the implementation is eager.
        """
        batch, groups = inputs.shape[:2]
        query = self.query(queries).expand(batch, groups, -1, -1).flatten(0, 1)
        query = query.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        fused = self.key_value(inputs).flatten(0, 1).unflatten(-1, (2, self.num_heads, -1))
        key, value = (part.transpose(1, 2) for part in fused.unbind(2))
        attended, probabilities = attend(self, query, key, value, **kwargs)
        return self.projection(attended.flatten(2)).unflatten(0, (batch, groups)), probabilities


class HipCrossAttention(GradientCheckpointingLayer):
    """Cross-attention and an MLP, pre-norm.

    Args:
        query_size, input_size: channels of the queries, which are those of the result, and of the inputs.
        residual: whether the queries are added to the attended values.
    """

    def __init__(
        self,
        config: HipConfig,
        query_size: int,
        input_size: int,
        num_heads: int = 1,
        mlp_ratio: int = 1,
        residual: bool = False,
    ):
        super().__init__()
        self.query_norm = nn.LayerNorm(query_size, eps=config.layer_norm_eps)
        self.input_norm = nn.LayerNorm(input_size, eps=config.layer_norm_eps)
        self.attention = HipAttention(config, query_size, input_size, num_heads)
        self.mlp_norm = nn.LayerNorm(query_size, eps=config.layer_norm_eps)
        self.mlp = MLP(query_size, mlp_ratio * query_size, config.hidden_act)
        self.residual = residual

    def forward(self, inputs: torch.Tensor, queries: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map inputs (batch, groups, length, input_size) to (batch, groups, queries, query_size).

        Args:
            queries: (batch or 1, groups, queries, query_size).
        """
        attended, _ = self.attention(self.query_norm(queries), self.input_norm(inputs), **kwargs)
        if self.residual:
            attended = attended + queries
        return attended + self.mlp(self.mlp_norm(attended))


class HipLayer(GradientCheckpointingLayer):
    """Pre-norm transformer layer whose tokens are the latents of a group."""

    def __init__(self, config: HipConfig, hidden_size: int, num_heads: int, mlp_ratio: int):
        super().__init__()
        rate = config.hidden_dropout_prob
        self.attention_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.attention = SelfAttention(config, hidden_size, num_heads, projection_dropout=rate)
        self.mlp_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(hidden_size, mlp_ratio * hidden_size, config.hidden_act)
        self.dropout = nn.Dropout(rate)
        self.drop_path = UnscaledStochasticDepth(config.drop_path_rate)

    def forward(self, latents: torch.Tensor, **kwargs) -> torch.Tensor:
        """Map latents (batch, groups, latents, channels) to the same shape."""
        attended, _ = self.attention(self.attention_norm(latents).flatten(0, 1), **kwargs)
        latents = latents + self.drop_path(attended.view_as(latents))
        return latents + self.drop_path(self.dropout(self.mlp(self.mlp_norm(latents))))


class HipBlock(Stage):
    """A block: regroups its inputs, attends to them from learned latents, and then among the latents of a group.

    Args:
        index: of the block in the lists of `config`.
    """

    def __init__(self, config: HipConfig, index: int):
        super().__init__()
        size, self.num_groups = config.hidden_sizes[index], config.num_groups[index]
        self.transpose = config.regroup_type == "transpose_reshape"
        self.is_first = index == 0
        self.num_training_latents = config.num_training_latents if index == config.processor_index else None
        self.queries = HipTable(self.num_groups * config.num_latents[index], size)
        mirror_size = config.hidden_sizes[config.num_hidden_layers - 1 - index]
        has_projection = index > config.processor_index and mirror_size != size
        self.skip_projection = nn.Linear(mirror_size, size) if has_projection else None
        self.cross_attention = HipCrossAttention(
            config,
            size,
            config.input_sizes[index],
            config.num_cross_attention_heads[index],
            config.cross_mlp_ratios[index],
            residual=True,
        )
        heads, ratio = config.num_attention_heads[index], config.mlp_ratios[index]
        self.layers = nn.ModuleList(HipLayer(config, size, heads, ratio) for _ in range(config.depths[index]))

    def forward(
        self,
        inputs: torch.Tensor,
        labels: torch.Tensor | None = None,
        skip: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Map (batch, groups, length, channels) to latents (batch, own groups, own latents, own channels).

        Args:
            inputs: the grouped inputs, for the first block, or the latents of the block before.
            labels: (batch, 1, length, channels), further inputs of the processor.
            skip: latents of the encoder's block of this size, for a block of the decoder.
        """
        if not self.is_first:
            inputs = regroup(inputs, self.num_groups, self.transpose)
        if labels is not None:
            inputs = torch.cat([inputs, labels], dim=2)
        queries = self.queries().unflatten(1, (self.num_groups, -1))
        if self.training and self.num_training_latents is not None:
            queries = random_subset(queries.expand(inputs.shape[0], -1, -1, -1), self.num_training_latents)
        if skip is not None:
            queries = queries + (skip if self.skip_projection is None else self.skip_projection(skip))
        latents = self.cross_attention(inputs, queries, **kwargs)
        for layer in self.layers:
            latents = layer(latents, **kwargs)
        return latents


def random_subset(queries: torch.Tensor, count: int) -> torch.Tensor:
    """Draw `count` of the queries (batch, groups, queries, channels), others in each group of each sample."""
    order = torch.rand(queries.shape[:3], device=queries.device).argsort(dim=2)[:, :, :count]
    return queries.gather(2, order[..., None].expand(-1, -1, -1, queries.shape[3]))


class HipModality(nn.Module):
    """Embedding of the values of one modality, and its positions."""

    def __init__(self, count: int, channels: int, embedding_size: int):
        super().__init__()
        self.projection = nn.Linear(channels, embedding_size)
        self.position_embedding = HipTable(count, embedding_size)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embedded values (batch, index, embedding_size) and positions (1, index, embedding_size)."""
        positions = self.position_embedding().clone()  # FSDP frees the table itself when this module is done
        return self.projection(values.to(positions.dtype)), positions


def by_modality(modules: dict[str, nn.Module]) -> nn.ModuleDict:
    """Make a `ModuleDict` of modalities; ValueError for a name that torch's class has as a method."""
    if taken := [name for name in modules if hasattr(nn.ModuleDict, name)]:
        raise ValueError(f"a modality cannot be called {taken[0]!r}, a method of torch's ModuleDict: rename it")
    return nn.ModuleDict(modules)


class HipEmbeddings(nn.Module):
    """Embedding of all modalities that enter at the first block, in groups."""

    def __init__(self, config: HipConfig):
        super().__init__()
        self.config = config
        size = config.embedding_size
        inputs = {name: sizes for name, sizes in config.sizes.items() if name not in config.label_modalities}
        self.modalities = by_modality({name: HipModality(*sizes, size) for name, sizes in inputs.items()})
        number = max(len(config.inputs_of(names, names)) for names in config.batches)
        self.position_projections = nn.ModuleList(
            nn.Linear(size, size, bias=False) for _ in range(number if config.use_position_projection else 0)
        )
        single = config.num_hidden_layers == 1
        self.grouping = Concatenation() if single else Grouping(config.num_groups[0])

    def forward(self, values: Values) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed {name: (batch, index, channels)}, in the order of their dataset.

        Returns:
            (batch, groups, length, embedding_size), and the positions alone (1, groups, length, embedding_size),
            with which reconstructions are read.
        """
        embedded, positions = {}, {}
        for index, (name, value) in enumerate(values.items()):
            content, positions[name] = self.modalities[name](value)
            if self.config.use_position_projection:
                positions[name] = self.position_projections[index](positions[name])
            embedded[name] = content + positions[name]
        return self.grouping(embedded), self.grouping(positions)


class HipLabelEmbeddings(nn.Module):
    """Embedding of the modalities that enter at the processor."""

    def __init__(self, config: HipConfig):
        super().__init__()
        size = config.input_sizes[config.processor_index]
        labels = {name: config.sizes[name] for name in config.label_modalities}
        self.modalities = by_modality({name: HipModality(*sizes, size) for name, sizes in labels.items()})

    def forward(self, values: Values) -> tuple[torch.Tensor, Values]:
        """Embed {name: (batch, index, channels)}.

        Returns:
            (batch, 1, sum of index counts, size), and the positions of each modality alone (1, 1, index, size).
        """
        pairs = {name: self.modalities[name](value) for name, value in values.items()}
        joined = torch.cat([content + positions for content, positions in pairs.values()], dim=1)
        return joined[:, None], {name: positions[:, None] for name, (_, positions) in pairs.items()}


class HipReconstruction(nn.Module):
    """Reads reconstructions from latents, by cross-attention whose queries are positions.

    Args:
        query_size, input_size: channels of the positions and of the latents.
        modalities: {name: channels}.
    """

    def __init__(self, config: HipConfig, query_size: int, input_size: int, modalities: dict[str, int]):
        super().__init__()
        self.cross_attention = HipCrossAttention(config, query_size, input_size)
        self.projections = by_modality({name: nn.Linear(query_size, size) for name, size in modalities.items()})
        for projection in self.projections.values():
            projection.is_readout = True  # for its initialisation

    def forward(self, latents: torch.Tensor, queries: torch.Tensor, split, **kwargs) -> Values:
        """Return {name: (batch, index, channels)}.

        Args:
            latents: (batch, groups, latents, input_size).
            queries: positions (1, groups, length, query_size).
            split: function that divides (batch, groups, length, query_size) into modalities.
        """
        read = self.cross_attention(latents, queries, **kwargs)
        return {name: self.projections[name](value) for name, value in split(read).items()}


class HipPreTrainedModel(VitsHierarchicalPreTrainedModel):
    """Base class of HiP's models.

    `hidden_states` are the grouped inputs of the first block and the latents of every block, (batch, groups, length,
    channels). `attentions` are (batch * groups, heads, queries, keys) of every cross-attention and self-attention.
    """

    config_class = HipConfig
    main_input_name = "inputs"
    _no_split_modules = ["HipCrossAttention", "HipLayer", "HipModality"]

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as Haiku's VarianceScaling: std 1 / sqrt(fan_in), truncated; a table's fan_in is its rows.

        The last layer of reconstructions is zero.
        """
        if isinstance(module, nn.Linear):
            if getattr(module, "is_readout", False):
                init.zeros_(module.weight)
            else:
                init_as_flax(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, HipTable):
            init_as_flax(module.weight, fan_in=len(module.weight))
        else:
            super()._init_weights(module)


class HipModel(HipPreTrainedModel):
    """HiP, HiPClassBottleneck or Perceiver IO. `pooler_output` is the mean of the processor's latents.

    Args:
        add_decoder: whether there are the blocks after the processor and the reconstruction.
    """

    _input_embed_layer = "grouping"

    def __init__(self, config: HipConfig, add_decoder: bool = True):
        super().__init__(config)
        self.embeddings = HipEmbeddings(config)
        middle, sizes = config.processor_index, config.sizes
        self.encoder = nn.ModuleList(HipBlock(config, index) for index in range(middle + 1))
        self.label_embeddings = HipLabelEmbeddings(config) if config.label_modalities else None
        self.decoder = self.reconstruction = self.label_reconstruction = None
        if add_decoder:
            blocks = range(middle + 1, config.num_hidden_layers)
            self.decoder = nn.ModuleList(HipBlock(config, index) for index in blocks)
            channels = {name: sizes[name][1] for name in self.embeddings.modalities}
            self.reconstruction = HipReconstruction(config, config.embedding_size, config.hidden_size, channels)
            if config.label_modalities:
                channels = {name: sizes[name][1] for name in config.label_modalities}
                self.label_reconstruction = HipReconstruction(
                    config, config.input_sizes[middle], config.hidden_sizes[middle], channels
                )
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, inputs: Values | torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]) -> HipOutput:
        """Encode a batch of one dataset, and reconstruct it from the latents.

        Args:
            inputs: {name: (batch, index, channels)}, with exactly the modalities of one of the datasets, in any order;
                or a single tensor, if the model has a single modality, which for "image" may be (batch, channels,
                height, width). Values that are to be predicted are zeros.

        Returns:
            `last_hidden_state` (batch, groups * latents, channels): the latents of the last block.
        """
        values = self.check_inputs(inputs)
        labels = {name: value for name, value in values.items() if name in self.config.label_modalities}
        values = {name: value for name, value in values.items() if name not in labels}
        counts = {name: value.shape[1] for name, value in values.items()}
        latents, positions = self.embeddings(values)
        extra, label_positions = self.label_embeddings(labels) if labels else (None, {})
        encoded = []
        for index, block in enumerate(self.encoder):
            is_processor = index == self.config.processor_index
            latents = block(latents, labels=extra if is_processor else None, **kwargs)
            encoded.append(latents)
        pooled = latents.mean(dim=(1, 2))
        if self.reconstruction is None:
            return HipOutput(last_hidden_state=latents.flatten(1, 2), pooler_output=pooled)
        read = {}
        for name, queries in label_positions.items():
            read |= self.label_reconstruction(latents, queries, lambda rows, name=name: {name: rows[:, 0]}, **kwargs)
        for block, skip in zip(self.decoder, reversed(encoded[:-1]), strict=True):
            latents = block(latents, skip=skip, **kwargs)
        split = self.embeddings.grouping.split
        read |= self.reconstruction(latents, positions, lambda rows: split(rows, counts), **kwargs)
        return HipOutput(
            last_hidden_state=latents.flatten(1, 2),
            pooler_output=pooled,
            reconstruction={name: read[name] for name in (*values, *labels)},
            latents=split(latents, counts),
        )

    def check_inputs(self, inputs: Values | torch.Tensor | None) -> Values:
        """Return the inputs as a dict in the order of their dataset; ValueError or TypeError where they do not fit."""
        sizes = self.config.sizes
        if isinstance(inputs, torch.Tensor) and len(sizes) == 1:
            if inputs.ndim == 4 and IMAGE in sizes:
                inputs = inputs.flatten(2).transpose(1, 2)
            inputs = dict.fromkeys(sizes, inputs)
        if not isinstance(inputs, Mapping):
            found = "nothing" if inputs is None else f"a {type(inputs).__name__}"
            raise ValueError(
                "You have to specify inputs: a dict {name: (batch, index, channels)} of the modalities "
                f"{', '.join(sizes)}, got {found}"
            )
        batch = None
        for name in (dataset := self.config.batches[self.config.find_dataset(inputs)]):
            value, expected = inputs[name], sizes[name]
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                found = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
                raise TypeError(
                    f"modality {name} must be a tensor of floating-point numbers, such as normalised pixels or "
                    f"one-hot labels as floats, got {found}"
                )
            if value.ndim != 3 or tuple(value.shape[1:]) != expected:
                raise ValueError(
                    f"modality {name} must be (batch, index, channels) = (batch, {expected[0]}, {expected[1]}), got "
                    f"shape {tuple(value.shape)}. Positions exist only for this index count: another one needs a "
                    "model with another position table, by `modalities` of its configuration"
                )
            batch = value.shape[0] if batch is None else batch
            if not batch:
                raise ValueError(f"modality {name} must have a batch of one or more, got shape {tuple(value.shape)}")
            if value.shape[0] != batch:
                raise ValueError(f"all modalities need the same batch, got {batch} and, of {name}, {value.shape[0]}")
        return {name: inputs[name] for name in dataset}


class HipForPreTraining(HipPreTrainedModel):
    """HiP that learns by masked auto-encoding: a part of each modality is zero, and is reconstructed.

    The original has no code for this: which values are hidden, that they are zero, and the loss are choices made here.
    """

    def __init__(self, config: HipConfig):
        super().__init__(config)
        self.model = HipModel(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        inputs: Values | torch.Tensor | None = None,
        mask: Values | torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> HipPreTrainingOutput:
        """Reconstruct what is hidden of the inputs.

        Args:
            inputs: as in `HipModel`; the values themselves are the targets.
            mask: {name: boolean (batch, index)}, or a single tensor for a single modality; True where values are
                hidden. None to draw a mask of `config.mask_ratio` for each modality, the same at each call in
                evaluation mode.
        """
        values = self.model.check_inputs(inputs)
        masks = self.draw_masks(values) if mask is None else self.check_masks(mask, values)
        hidden = {name: value.masked_fill(masks[name][..., None], 0) for name, value in values.items()}
        outputs = self.model(hidden, return_dict=True, **kwargs)
        losses = []
        for name, hides in masks.items():
            errors = (outputs.reconstruction[name].float() - values[name].float()).square().mean(dim=-1)
            losses.append((errors * hides).sum() / hides.sum().clamp(min=1))
        return HipPreTrainingOutput(
            loss=torch.stack(losses).mean(),
            reconstruction=outputs.reconstruction,
            mask={name: hides.to(values[name].dtype) for name, hides in masks.items()},
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=outputs.pooler_output,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def export(self) -> HipModel:
        """Return a copy of the model without the objective."""
        model = HipModel(self.config)
        model.load_state_dict(self.model.state_dict())
        return model.train(self.training)

    def draw_masks(self, values: Values) -> Values:
        """Draw the mask of each modality, with at least one hidden index."""
        masks = {}
        for name, value in values.items():
            device = value.device if self.training else torch.device("cpu")
            generator = None if self.training else torch.Generator(device).manual_seed(0)
            noise = torch.rand(value.shape[:2], device=device, generator=generator).to(value.device)
            count = max(1, round(self.config.mask_ratio * value.shape[1]))
            masks[name] = noise.argsort(dim=1).argsort(dim=1) < count
        return masks

    def check_masks(self, masks: Values | torch.Tensor, values: Values) -> Values:
        """Return given masks as a dict; ValueError unless there is one for each modality, boolean (batch, index)."""
        given: Any = dict.fromkeys(values, masks) if isinstance(masks, torch.Tensor) and len(values) == 1 else masks
        if not isinstance(given, Mapping) or set(given) != set(values):
            raise ValueError(f"mask needs a mask for each modality: {', '.join(values)}")
        for name, value in values.items():
            mask, expected = given[name], f"a boolean tensor (batch, index) = {tuple(value.shape[:2])}"
            if not isinstance(mask, torch.Tensor):
                raise TypeError(f"mask of {name} must be {expected}, got a {type(mask).__name__}")
            if mask.dtype != torch.bool or mask.shape != value.shape[:2]:
                raise ValueError(f"mask of {name} must be {expected}, got {mask.dtype} {tuple(mask.shape)}")
        return {name: given[name] for name in values}


class HipForClassification(ForClassification):
    """Mixin of classifiers: a linear layer on the mean of the processor's latents, without decoder.

    The original has no such head. Modalities of the same dataset other than the classified one are zeros, as hidden
    ones in pretraining; weights of a decoder are not loaded.

    Attributes:
        modality: name of the modality that is classified.
    """

    modality: str
    _keys_to_ignore_on_load_unexpected = [r"^model\.(decoder|reconstruction|label_reconstruction)\."]

    def make_parts(self, config: HipConfig) -> None:
        if self.modality not in config.sizes:
            raise ValueError(
                f"{type(self).__name__} classifies the modality {self.modality!r}, but modalities are "
                f"{', '.join(config.sizes)}: rename one, or use HipModel"
            )
        self.model = HipModel(config, add_decoder=False)
        self.classifier = self.make_classifier(config) if config.num_labels else nn.Identity()

    def with_others(self, values: torch.Tensor) -> Values:
        """Return the inputs of the model: the modality's values (batch, index, channels), and zeros for others."""
        config = self.config
        names = next(names for names in config.batches if self.modality in names)
        zeros = {name: values.new_zeros(values.shape[0], *config.sizes[name]) for name in names}
        return zeros | {self.modality: values}


class HipForImageClassification(HipForClassification, HipPreTrainedModel):
    """HiP that classifies the raw pixels of images, the modality "image"."""

    modality = IMAGE
    main_input_name = "pixel_values"

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClassifierOutput:
        """Classify images.

        Args:
            pixel_values: (batch, num_channels, height, width), with height * width the index count of the modality
                "image", whose rows are the pixels line by line.
            labels: as in `ForClassification.classify`.
        """
        count, channels = self.config.sizes[IMAGE]
        shape = None if pixel_values is None else tuple(pixel_values.shape)
        if shape is None or len(shape) != 4 or shape[1] != channels or shape[2] * shape[3] != count:
            found = "nothing" if shape is None else f"shape {shape}"
            raise ValueError(
                f"You have to specify pixel_values: (batch, num_channels, height, width) of {channels} channels and "
                f"height * width = {count}, got {found}. Positions exist only for this number of pixels: resize the "
                "images, or build a model with other `modalities`"
            )
        values = pixel_values.flatten(2).transpose(1, 2)
        return self.classify(self.model(self.with_others(values), return_dict=True, **kwargs), labels, **kwargs)


class HipForAudioClassification(HipForClassification, HipPreTrainedModel):
    """HiP that classifies raw waveforms, the modality "waveform"."""

    modality = WAVEFORM
    main_input_name = "input_values"
    input_modalities = ("audio",)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClassifierOutput:
        """Classify waveforms.

        Args:
            input_values: (batch, samples), with as many samples as the modality "waveform" has values: each index
                holds as many neighbouring samples as there are channels.
            labels: as in `ForClassification.classify`.
        """
        count, channels = self.config.sizes[WAVEFORM]
        if input_values is None or input_values.ndim != 2 or input_values.shape[1] != count * channels:
            found = "nothing" if input_values is None else f"shape {tuple(input_values.shape)}"
            raise ValueError(
                f"You have to specify input_values: (batch, samples) of {count * channels} samples, got {found}. "
                "Positions exist only for this length: pad or crop the audio, as the model's feature extractor does, "
                "or build a model with other `modalities`"
            )
        values = input_values.unflatten(1, (count, channels))
        return self.classify(self.model(self.with_others(values), return_dict=True, **kwargs), labels, **kwargs)


__all__ = [
    "HipForAudioClassification",
    "HipForImageClassification",
    "HipForPreTraining",
    "HipModel",
    "HipPreTrainedModel",
]
