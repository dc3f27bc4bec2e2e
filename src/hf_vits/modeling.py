"""What the models of all architectures share: base class, outputs, backbones and task heads."""

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput, BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple
from transformers.utils.output_capturing import OutputRecorder

from .layers.attention import Attention, QueryKeyValue
from .layers.constants import Constants
from .layers.convolution import PointwiseLinear
from .layers.position import PositionEmbedding
from .layers.relative_position import RelativePositionBias
from .layers.stages import Stage
from .layers.transformer import LayerScale


@dataclass
class EncoderOutput(BaseModelOutputWithPooling):
    """Output of a base model.

    last_hidden_state: (batch, tokens, channels), prefix tokens first, `config.num_prefix_tokens` of them.
    pooler_output: (batch, channels), what the original's classifier sees.
    hidden_states: the input of the first layer and the output of each, with `output_hidden_states=True`.
    attentions: (batch, heads, tokens, tokens) per layer, with `output_attentions=True` and eager attention.
    query_states, key_states, value_states: (batch, heads, tokens, head_dim) per layer, each on request with
        `output_query_states=True`, `output_key_states=True`, `output_value_states=True`.
    layer_states: what each layer of an encoder in stages returns, with `output_layer_states=True`.
    """

    query_states: tuple[torch.Tensor, ...] | None = None
    key_states: tuple[torch.Tensor, ...] | None = None
    value_states: tuple[torch.Tensor, ...] | None = None
    layer_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class ClassifierOutput(ImageClassifierOutput):
    """Output of a classifier: loss (scalar, if labels were given), logits (batch, num_labels), recorded states.

    The recorded states are those of `EncoderOutput`.
    """

    query_states: tuple[torch.Tensor, ...] | None = None
    key_states: tuple[torch.Tensor, ...] | None = None
    value_states: tuple[torch.Tensor, ...] | None = None


@dataclass
class DistilledClassifierOutput(ClassifierOutput):
    """Output of an image classifier that may have a second head, which learns from a teacher.

    logits: (batch, num_labels); of a model with two heads their mean.
    cls_logits, distillation_logits: (batch, num_labels) of each head of a model with two.
    """

    cls_logits: torch.Tensor | None = None
    distillation_logits: torch.Tensor | None = None


def recorded_states(outputs: EncoderOutput) -> dict:
    """What a head hands on from its base model's output."""
    names = ("hidden_states", "attentions", "query_states", "key_states", "value_states")
    return {name: outputs[name] for name in names if name in outputs}


def asks_for_states(model: PreTrainedModel, kwargs: dict) -> bool:
    """Whether arguments or configuration ask for hidden states, attentions or other states of the layers."""
    flags = (f"output_{name}" for name in model._can_record_outputs)
    return any(kwargs.get(flag, getattr(model.config, flag, False)) for flag in flags)


def is_watched(module: nn.Module) -> bool:
    """Whether a forward hook reads what the module or a part of it returns."""
    return any(part._forward_hooks for part in module.modules())


def init_as_torch(module: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
    """Weights and bias as PyTorch makes them: uniform, within one over the square root of the inputs of an output."""
    init.kaiming_uniform_(module.weight, a=5**0.5)
    if module.bias is not None:
        bound = module.weight[0].numel() ** -0.5
        init.uniform_(module.bias, -bound, bound)


def init_as_flax(weight: torch.Tensor) -> None:
    """Flax's LeCun initialisation: normal, cut off at two deviations, 1 / sqrt(inputs of an output) over all.

    transformers' own function of the name cuts off at plus and minus 2, which leaves weights 14 % too large.
    """
    std = weight[0].numel() ** -0.5 / 0.87962566103423978
    init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


# Keyword arguments that every model takes: those of transformers' attention, losses and decorators of forward methods,
# and two switches that its pipelines and users pass to any model. All models interpolate their positions.
SHARED_ARGUMENTS = frozenset(TransformersKwargs.__annotations__) | {
    "return_dict",
    "debug_io",
    "debug_io_dir",
    "prune_layers",
    "use_cache",
    "interpolate_pos_encoding",
}


class VitsPreTrainedModel(PreTrainedModel):
    """Base class of every model: an image encoder whose heads hold it as `model`.

    Calling a model with a keyword argument that neither it nor its `base_model` knows raises TypeError.

    Attributes:
        own_arguments: names of the keyword arguments that the class's forward method knows, and of the outputs that
            can be recorded; set for each subclass.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Modules and buffers, whose types torch gives as Tensor | Module."""

    own_arguments: frozenset[str]
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _no_split_modules = ["TransformerLayer", "ParallelTransformerLayer"]
    _can_record_outputs = {
        # Whatever its kind, an encoder's layer is one that gradients can be checkpointed at.
        "hidden_states": OutputRecorder(GradientCheckpointingLayer),
        "attentions": OutputRecorder(Attention, index=1),
        "query_states": OutputRecorder(QueryKeyValue, index=0),
        "key_states": OutputRecorder(QueryKeyValue, index=1),
        "value_states": OutputRecorder(QueryKeyValue, index=2),
    }

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _, *parameters = inspect.signature(cls.forward).parameters.values()
        named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
        cls.own_arguments = frozenset(named | {f"output_{name}" for name in cls._can_record_outputs})

    def __call__(self, *args, **kwargs):
        """Call `forward`, whose **kwargs would ignore a misspelt argument, after a check of the arguments' names.

        Raises:
            TypeError: an argument is unknown and not None.
        """
        base_model: Any = self.base_model
        known = self.own_arguments | base_model.own_arguments
        given = {name for name, value in kwargs.items() if value is not None}
        unknown = sorted(given - known - SHARED_ARGUMENTS)
        if unknown:
            raise TypeError(
                f"{type(self).__name__} got unknown arguments {', '.join(unknown)}: leave them out. It takes "
                f"{', '.join(sorted(known))} and transformers' TransformersKwargs"
            )
        return super().__call__(*args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module):
        """What most originals do: linear layers truncated normal, convolutions as PyTorch makes them, norms 1 and 0.

        The deviation is `config.initializer_range`, 0.02 where a configuration has none.
        """
        std = getattr(self.config, "initializer_range", 0.02)
        if isinstance(module, nn.Linear | PointwiseLinear):
            init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            init_as_torch(module)
        elif isinstance(module, PositionEmbedding):
            init.trunc_normal_(module.table, std=std)
        elif isinstance(module, LayerScale):
            init.constant_(module.gain, module.initial_value)
        elif isinstance(module, Constants):
            for name, value in module.constants().items():
                init.copy_(getattr(module, name), value)
            if isinstance(module, RelativePositionBias):
                init.trunc_normal_(module.table, std=std)
        elif getattr(module, "class_token", None) is not None:
            init.trunc_normal_(module.class_token, std=std)
        else:
            super()._init_weights(module)


class VitsHierarchicalPreTrainedModel(VitsPreTrainedModel):
    """Base class of encoders in stages. `hidden_states` are maps: what enters the first stage and what leaves each."""

    _can_record_outputs = {
        "hidden_states": OutputRecorder(Stage),
        "layer_states": OutputRecorder(GradientCheckpointingLayer),
        "attentions": OutputRecorder(Attention, index=1),
    }

    def normed_and_pooled(self, tokens: torch.Tensor) -> EncoderOutput:
        """What most base models end with: a final norm, then the class token, or the mean where there is none.

        A model without final norm, as in a backbone, pools nothing.

        Args:
            tokens: (batch, prefix + tokens of the last map, hidden_size).
        """
        if self.norm is None:
            return EncoderOutput(last_hidden_state=tokens)
        tokens = self.norm(tokens)
        pooled = tokens[:, 0] if self.config.num_prefix_tokens else tokens.mean(dim=1)
        return EncoderOutput(last_hidden_state=tokens, pooler_output=pooled)


# What is mixed into a pretrained class has its methods; only a type checker must be told.
_PreTrained = PreTrainedModel if TYPE_CHECKING else object


class ForClassification(_PreTrained):
    """A linear classifier on `pooler_output`; mixed into an architecture's pretrained class.

    `ForImageClassification` adds the forward method of images; a model of sound or text writes its own, which names
    its inputs, around `classify`.

    Attributes:
        model_class: the base model to build.
    """

    model_class: type[PreTrainedModel]
    model: Any

    def __init__(self, config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = self.model_class(config)
        self.classifier = self.make_classifier(config) if config.num_labels else nn.Identity()
        self.post_init()

    @staticmethod
    def make_classifier(config) -> nn.Module:
        """From `pooler_output`, (batch, pooler_size), to logits, (batch, num_labels)."""
        return nn.Linear(config.pooler_size, config.num_labels)

    def classify(self, outputs: EncoderOutput, labels: torch.Tensor | None = None, **kwargs) -> ClassifierOutput:
        """Logits of the base model's output, and the loss where there are labels.

        Args:
            labels: (batch,) class indices, or (batch, num_labels) for regression and multi-label problems; the loss
                follows `config.problem_type` as everywhere in transformers.
        """
        logits = self.classifier(outputs.pooler_output)
        loss = None if labels is None else self.loss_function(labels, logits, self.config, **kwargs)
        return ClassifierOutput(loss=loss, logits=logits, **recorded_states(outputs))


class ForImageClassification(ForClassification):
    """A linear classifier of images."""

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ClassifierOutput:
        """Classify images.

        Args:
            pixel_values: (batch, num_channels, height, width), normalised by the image processor.
            labels: as in `classify`.
        """
        return self.classify(self.encode(pixel_values, **kwargs), labels, **kwargs)

    def encode(self, pixel_values: torch.Tensor | None, **kwargs) -> EncoderOutput:
        """Output of the base model; an architecture may spare itself what nobody reads of it."""
        return self.model(pixel_values, **kwargs)


class DistilledImageClassification(ForImageClassification):
    """One classifier, or two, of which the second learns from a teacher while training.

    They are averaged, in training too; a distillation loss reads `cls_logits` and `distillation_logits`.
    """

    def __init__(self, config):
        super().__init__(config)
        self.distillation_classifier = None
        if self.has_two_classifiers(config) and config.num_labels:
            self.distillation_classifier = self.make_classifier(config)
            self.post_init()

    @staticmethod
    def has_two_classifiers(config) -> bool:
        return config.distilled

    def distillation_features(self, outputs: EncoderOutput) -> torch.Tensor:
        """(batch, pooler_size), what the second classifier reads."""
        return outputs["pooler_output"]

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> DistilledClassifierOutput:
        """Classify images; arguments as in `ForImageClassification.forward`."""
        if self.distillation_classifier is None:
            outputs = super().forward(pixel_values, labels, **kwargs | {"return_dict": True})
            return DistilledClassifierOutput(**outputs)
        outputs = self.encode(pixel_values, **kwargs)
        cls_logits = self.classifier(outputs.pooler_output)
        distillation_logits = self.distillation_classifier(self.distillation_features(outputs))
        logits = (cls_logits + distillation_logits) / 2
        loss = None if labels is None else self.loss_function(labels, logits, self.config, **kwargs)
        return DistilledClassifierOutput(
            loss=loss,
            logits=logits,
            cls_logits=cls_logits,
            distillation_logits=distillation_logits,
            **recorded_states(outputs),
        )


class IsotropicBackbone(BackboneMixin, _PreTrained):
    """Feature maps of a model whose token grid is the same in every layer; mixed into its pretrained class.

    Stage "stem" is what enters the first layer, "stage<n>" what leaves layer n, each through the final norm unless
    `config.apply_layernorm` is False.
    """

    model_class: type[PreTrainedModel]
    model: Any
    _keys_to_ignore_on_load_unexpected = [r"^classifier\.", r"^distillation_classifier\.", r"^model\.pooler\."]

    def __init__(self, config):
        super().__init__(config)
        self.num_features = [config.hidden_size] * len(config.stage_names)
        self.model = self.model_class(config, add_pooling_layer=False)
        self.post_init()

    @can_return_tuple
    @filter_output_hidden_states
    def forward(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BackboneOutput:
        """(batch, num_channels, height, width) to `feature_maps`, one (batch, channels, rows, columns) per stage."""
        outputs = self.model(pixel_values, **kwargs)
        grid = self.model.embeddings.grid(*pixel_values.shape[-2:])
        feature_maps = []
        for stage, hidden_states in zip(self.stage_names, outputs.hidden_states, strict=True):
            if stage in self.out_features:
                if self.config.apply_layernorm:
                    hidden_states = self.model.norm(hidden_states)
                tokens = hidden_states[:, self.config.num_prefix_tokens :]
                feature_maps.append(tokens.transpose(1, 2).unflatten(2, grid).contiguous())
        return BackboneOutput(
            feature_maps=tuple(feature_maps),
            hidden_states=outputs.hidden_states,
            attentions=outputs.get("attentions"),
        )


class HierarchicalBackbone(BackboneMixin, _PreTrained):
    """Feature maps of a model in stages; mixed into its pretrained class.

    Stage "stem" is what enters the first stage, "stage<n>" what leaves stage n.
    """

    model_class: type[PreTrainedModel]
    model: Any
    _keys_to_ignore_on_load_unexpected = [r"^\w*classifier\.", r"^model\.(norm|pooler)\."]

    def __init__(self, config):
        super().__init__(config)
        self.num_features = [config.stem_size, *config.hidden_sizes]
        self.model = self.model_class(config, add_pooling_layer=False)
        self.post_init()

    def stage_maps(self, outputs: EncoderOutput) -> tuple[torch.Tensor, ...]:
        """The map of every stage name; an architecture says here where these are not its hidden states."""
        return outputs["hidden_states"]

    @can_return_tuple
    @filter_output_hidden_states
    def forward(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BackboneOutput:
        """(batch, num_channels, height, width) to `feature_maps`, one (batch, channels, rows, columns) per stage."""
        outputs = self.model(pixel_values, **kwargs)
        maps = zip(self.stage_names, self.stage_maps(outputs), strict=True)
        return BackboneOutput(
            feature_maps=tuple(feature_map for stage, feature_map in maps if stage in self.out_features),
            hidden_states=outputs.hidden_states,
            attentions=outputs.get("attentions"),
        )
