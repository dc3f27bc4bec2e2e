"""Base classes, outputs, backbones and task heads that all architectures share."""

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

from .files import reading
from .layers.arguments import check_flags, check_tensors, with_range
from .layers.attention import RECORDED, Attention, SplitHeads
from .layers.constants import Constants
from .layers.convolution import PointwiseLinear
from .layers.multi_label import binary_cross_entropy
from .layers.position import PositionEmbedding
from .layers.relative_position import RelativePositionBias
from .layers.stages import Stage
from .layers.transformer import LayerScale


@dataclass
class EncoderOutput(BaseModelOutputWithPooling):
    """Output of a base model.

    last_hidden_state: (batch, tokens, channels), prefix tokens first, `config.num_prefix_tokens` of them.
    pooler_output: (batch, channels), the input of the original's classifier.
    hidden_states: the input of the first layer and the output of each layer, with `output_hidden_states=True`.
    attentions: (batch, heads, tokens, tokens) per layer, with `output_attentions=True` and eager attention.
    query_states, key_states, value_states: (batch, heads, tokens, head_dim) per layer, each on request with
        `output_query_states=True`, `output_key_states=True`, `output_value_states=True`.
    layer_states: the output of each layer of a hierarchical encoder, with `output_layer_states=True`.
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
    """Output of an image classifier that may have a second head, trained by distillation from a teacher.

    logits: (batch, num_labels); with two heads, the mean of their logits.
    cls_logits, distillation_logits: (batch, num_labels), the logits of each head; None with one head.
    """

    cls_logits: torch.Tensor | None = None
    distillation_logits: torch.Tensor | None = None


def recorded_states(outputs: EncoderOutput) -> dict:
    """Return the recorded states of a base model's output that its head returns as well."""
    names = ("hidden_states", "attentions", "query_states", "key_states", "value_states")
    return {name: outputs[name] for name in names if name in outputs}


def classification_loss(model: PreTrainedModel, labels: torch.Tensor, logits: torch.Tensor, **kwargs) -> torch.Tensor:
    """Return the loss of `model.loss_function`, with `num_items_in_batch` also for regression and several labels.

    transformers' Trainer passes the number of labels of all accumulated parts, for whose sum it takes the losses;
    transformers' own function only divides by it where each input has one class.

    Of several labels those that are NaN are unknown and do not count.
    Raises TypeError and ValueError for labels that do not fit the logits; that they are in range is seen on the CPU.
    """
    check_labels(labels, logits, model.config)
    if model.config.problem_type == "multi_label_classification":
        return part_of_batch(binary_cross_entropy(logits, labels), labels, **kwargs)
    loss = with_range(
        "labels", model.config.num_labels, lambda: model.loss_function(labels, logits, model.config, **kwargs)
    )
    if model.config.problem_type in ("regression", "multi_label_classification"):
        loss = part_of_batch(loss, labels, **kwargs)
    return loss


def check_labels(labels: torch.Tensor, logits: torch.Tensor, config) -> None:
    """Raise TypeError or ValueError unless labels have the dtype and shape that the kind of problem needs."""
    if not config.num_labels:
        raise ValueError("labels need a classifier, but the model has num_labels=0")
    if getattr(config, "head_sizes", None) is not None:  # the loss of several heads checks them
        return
    is_index = not labels.is_floating_point()
    problem = config.problem_type
    if problem is None:  # as transformers' loss decides
        problem = "single_label_classification" if is_index else "multi_label_classification"
        problem = "regression" if config.num_labels == 1 else problem
    if problem == "single_label_classification":
        if labels.dtype != torch.int64:
            raise TypeError(f"labels must be class indices of torch.int64, got {labels.dtype}: convert with .long()")
        if labels.numel() != logits[..., 0].numel():
            expected = tuple(logits.shape[:-1])
            raise ValueError(f"labels must be class indices {expected}, got shape {tuple(labels.shape)}")
    elif problem == "multi_label_classification":
        if is_index or labels.shape != logits.shape:
            raise ValueError(
                f"labels must be floats {tuple(logits.shape)}, one for each class, got {labels.dtype} "
                f"{tuple(labels.shape)}; class indices are torch.int64"
            )
    elif labels.squeeze().shape != logits.squeeze().shape or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be numbers {tuple(logits.shape)} for a regression, got {labels.dtype} {tuple(labels.shape)}"
        )


def part_of_batch(
    loss: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None, **kwargs
) -> torch.Tensor:
    """Weigh a mean loss by the fraction of a batch's labels that this part of it has; None: it is the whole batch."""
    return loss if num_items_in_batch is None else loss * labels.numel() / num_items_in_batch


def only_pooled_is_read(model: PreTrainedModel, last_layer: nn.Module, kwargs: dict) -> bool:
    """Return whether nothing but the pooled token of the last layer's output is read.

    Where the class token is pooled, the other tokens of the last layer are keys and values for it and nothing more, so
    that the layer can leave out their queries, output projection and MLP. For a ViT-Ti/16 or ViT-S/16 at 224 pixels,
    computing them costs 6.5 % more floating-point operations, in inference and training.
    They are read, and therefore computed, where arguments or configuration ask for hidden states or attentions, where
    attention is recorded (`layers.recorded_attention`), and where a forward hook on the last layer, or on a part of
    it, sees its output, as Grad-CAM's does.

    Args:
        model: whose `_can_record_outputs` names the states that can be asked for.
        last_layer: last layer of the encoder.
        kwargs: keyword arguments of the model's `forward`.
    """
    flags = (f"output_{name}" for name in model._can_record_outputs)
    if any(kwargs.get(flag, getattr(model.config, flag, False)) for flag in flags):
        return False
    if model.config._attn_implementation == RECORDED:
        return False
    return not any(part._forward_hooks for part in last_layer.modules())


def init_as_torch(module: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
    """Initialise weight and bias as PyTorch does by default: uniform in +-1 / sqrt(fan_in)."""
    init.kaiming_uniform_(module.weight, a=5**0.5)
    if module.bias is not None:
        bound = module.weight[0].numel() ** -0.5
        init.uniform_(module.bias, -bound, bound)


def init_as_flax(weight: torch.Tensor, fan_in: int | None = None) -> None:
    """Initialise as Flax's `lecun_normal`: normal of std 1/sqrt(fan_in), truncated at two standard deviations.

    transformers' `lecun_normal_` truncates at -2 and 2 instead, which makes weights 14 % too large.

    Args:
        fan_in: None for the number of values that each row of `weight` multiplies.
    """
    std = (fan_in or weight[0].numel()) ** -0.5 / 0.87962566103423978
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
    """Base class of every model; task heads hold the encoder as `model`.

    Calling a model with a keyword argument that neither it nor its `base_model` knows raises TypeError.

    Attributes:
        own_arguments: names of the keyword arguments that the class's forward method knows, and of the outputs that
            can be recorded; set for each subclass.
        positional_arguments: names of the arguments of the class's forward method, in order.
        tensor_arguments: those of them that must be tensors.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Modules and buffers, whose types torch gives as Tensor | Module."""

    own_arguments: frozenset[str]
    positional_arguments: tuple[str, ...]
    tensor_arguments: frozenset[str]
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
        # Layers of every architecture derive from this class.
        "hidden_states": OutputRecorder(GradientCheckpointingLayer),
        "attentions": OutputRecorder(Attention, index=1),
        "query_states": OutputRecorder(SplitHeads, index=0),
        "key_states": OutputRecorder(SplitHeads, index=1),
        "value_states": OutputRecorder(SplitHeads, index=2),
    }

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _, *parameters = inspect.signature(cls.forward).parameters.values()
        named = {p.name: p.annotation for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        cls.own_arguments = frozenset({*named, *(f"output_{name}" for name in cls._can_record_outputs)})
        cls.positional_arguments = tuple(named)
        tensors = (torch.Tensor, torch.Tensor | None)
        cls.tensor_arguments = frozenset(name for name, annotation in named.items() if annotation in tensors)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a saved model as transformers does, with errors that name a damaged file."""
        # transformers raises RuntimeError for arguments and for weights of other shapes.
        with reading(pretrained_model_name_or_path or "", expected=(RuntimeError,)):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def get_init_context(cls, *args, **kwargs) -> list:
        """Return transformers' contexts in which `from_pretrained` builds an empty model.

        torch's own initialisation is left out: on empty weights it takes a tenth of the time of loading.
        """
        return [*super().get_init_context(*args, **kwargs), init.no_init_weights()]

    def __call__(self, *args, **kwargs):
        """Call `forward`, whose **kwargs would ignore a misspelt argument, after a check of names and types.

        Raises:
            TypeError: an argument is unknown and not None, or no tensor where a tensor is expected.
            ValueError: the main input is empty.
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
        arguments = dict(zip(self.positional_arguments, args, strict=False)) | kwargs
        check_tensors(arguments, self.tensor_arguments | base_model.tensor_arguments, self.main_input_name)
        check_flags(arguments)
        return super().__call__(*args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module):
        """Initialise as most originals: linear layers truncated normal, convolutions as PyTorch, norms 1 and 0.

        The standard deviation is `config.initializer_range`, or 0.02 where the configuration has no such field.
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
            init.constant_(module.gamma, module.initial_value)
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
    """Base class of hierarchical encoders.

    `hidden_states` are feature maps: the input of the first stage and the output of each stage.
    """

    _can_record_outputs = {
        "hidden_states": OutputRecorder(Stage),
        "layer_states": OutputRecorder(GradientCheckpointingLayer),
        "attentions": OutputRecorder(Attention, index=1),
    }

    def normed_and_pooled(self, tokens: torch.Tensor) -> EncoderOutput:
        """Apply the final norm and pool: take the class token or, without one, the mean of the tokens.

        A model without final norm, as inside a backbone, has no `pooler_output`.

        Args:
            tokens: (batch, prefix + tokens of the last feature map, hidden_size).
        """
        if self.norm is None:
            return EncoderOutput(last_hidden_state=tokens)
        tokens = self.norm(tokens)
        pooled = tokens[:, 0] if self.config.num_prefix_tokens else tokens.mean(dim=1)
        return EncoderOutput(last_hidden_state=tokens, pooler_output=pooled)


# Base of what is mixed into a pretrained class, whose attributes it uses; at run time the class itself has them.
PreTrainedMixin = VitsPreTrainedModel if TYPE_CHECKING else object


class ForClassification(PreTrainedMixin):
    """Mixin of classifiers: a base model and a linear classifier on its `pooler_output`.

    `ForImageClassification` adds a `forward` for images. A model of audio or text defines its own, which names its
    inputs and calls `classify`.

    Attributes:
        model_class: class of the base model.
    """

    model_class: type[PreTrainedModel]
    model: Any

    def __init__(self, config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.make_parts(config)
        self.post_init()

    def make_parts(self, config) -> None:
        """Make the submodules; a subclass that has more adds them here, before `post_init` initialises all."""
        self.model = self.model_class(config)
        self.classifier = self.make_classifier(config) if config.num_labels else nn.Identity()

    @staticmethod
    def make_classifier(config) -> nn.Module:
        """Make the classifier, from `pooler_output` (batch, pooler_size) to logits (batch, num_labels)."""
        return nn.Linear(config.pooler_size, config.num_labels)

    def classify(self, outputs: EncoderOutput, labels: torch.Tensor | None = None, **kwargs) -> ClassifierOutput:
        """Compute logits from the base model's output and, if labels are given, the loss.

        Args:
            labels: (batch,) class indices, or (batch, num_labels) for regression and multi-label problems; the loss
                depends on `config.problem_type` as everywhere in transformers.
        """
        logits = self.classifier(outputs.pooler_output)
        loss = None if labels is None else classification_loss(self, labels, logits, **kwargs)
        return ClassifierOutput(loss=loss, logits=logits, **recorded_states(outputs))


class ForImageClassification(ForClassification):
    """Mixin of image classifiers."""

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
        """Return the base model's output; an architecture may skip parts of it that nothing reads."""
        return self.model(pixel_values, return_dict=True, **kwargs)


class DistilledImageClassification(ForImageClassification):
    """Mixin of image classifiers that may have a second classifier, trained by distillation from a teacher.

    `logits` are the mean of both, also in training; a distillation loss reads `cls_logits` and `distillation_logits`.
    """

    def make_parts(self, config) -> None:
        super().make_parts(config)
        has_two = self.has_two_classifiers(config) and config.num_labels
        self.distillation_classifier = self.make_classifier(config) if has_two else None

    @staticmethod
    def has_two_classifiers(config) -> bool:
        """Return whether the configuration asks for the second classifier."""
        return config.distilled

    def distillation_features(self, outputs: EncoderOutput) -> torch.Tensor:
        """Return the second classifier's input, (batch, pooler_size)."""
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
        loss = None if labels is None else classification_loss(self, labels, logits, **kwargs)
        return DistilledClassifierOutput(
            loss=loss,
            logits=logits,
            cls_logits=cls_logits,
            distillation_logits=distillation_logits,
            **recorded_states(outputs),
        )


class IsotropicBackbone(BackboneMixin, PreTrainedMixin):
    """Mixin of backbones whose token grid is the same in every layer.

    The feature map "stem" is the input of the first layer, "stage<n>" the output of layer n. Each passes the final
    norm unless `config.apply_layernorm` is False.

    With `config.reshape_hidden_states` False they are sequences (batch, 1 + patches, channels) instead, the class
    token first, as transformers' depth estimators expect them (DPT, Depth Anything, ZoeDepth).

    Raises ValueError where such sequences are wanted of a model without class token.
    """

    model_class: type[PreTrainedModel]
    model: Any
    _keys_to_ignore_on_load_unexpected = [r"^classifier\.", r"^distillation_classifier\.", r"^model\.pooler\."]

    def __init__(self, config):
        super().__init__(config)
        if not config.reshape_hidden_states and not config.num_prefix_tokens:
            raise ValueError(
                f"reshape_hidden_states=False returns the class token before the patches, but this "
                f"{type(self).__name__} has no class token: leave it at True"
            )
        self.num_features = [config.hidden_size] * len(config.stage_names)
        self.model = self.model_class(config, add_pooling_layer=False)
        self.post_init()

    @can_return_tuple
    @filter_output_hidden_states
    def forward(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BackboneOutput:
        """Compute `feature_maps` (batch, channels, rows, columns), or sequences, one per stage, of `pixel_values`."""
        outputs = self.model(pixel_values, return_dict=True, **kwargs)
        grid = self.model.embeddings.grid(*pixel_values.shape[-2:])
        feature_maps = []
        for stage, hidden_states in zip(self.stage_names, outputs.hidden_states, strict=True):
            if stage in self.out_features:
                if self.config.apply_layernorm:
                    hidden_states = self.model.norm(hidden_states)
                tokens = hidden_states[:, self.config.num_prefix_tokens :]
                if self.config.reshape_hidden_states:
                    feature_maps.append(tokens.transpose(1, 2).unflatten(2, grid).contiguous())
                else:
                    feature_maps.append(torch.cat([hidden_states[:, :1], tokens], dim=1))
        return BackboneOutput(
            feature_maps=tuple(feature_maps),
            hidden_states=outputs.hidden_states,
            attentions=outputs.get("attentions"),
        )


class HierarchicalBackbone(BackboneMixin, PreTrainedMixin):
    """Mixin of backbones of hierarchical models.

    The feature map "stem" is the input of the first stage, "stage<n>" the output of stage n.
    """

    model_class: type[PreTrainedModel]
    model: Any
    _keys_to_ignore_on_load_unexpected = [r"^\w*classifier\.", r"^model\.(norm|pooler)\."]

    def __init__(self, config):
        super().__init__(config)
        self.num_features = [config.stem_size, *config.hidden_sizes]
        self.make_parts(config)
        self.post_init()

    def make_parts(self, config) -> None:
        """Make the submodules; a subclass that has more adds them here, before `post_init` initialises all."""
        self.model = self.model_class(config, add_pooling_layer=False)

    def stage_maps(self, outputs: EncoderOutput) -> tuple[torch.Tensor, ...]:
        """Return one feature map per stage name; overridden where these are not the hidden states."""
        return outputs["hidden_states"]

    @can_return_tuple
    @filter_output_hidden_states
    def forward(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BackboneOutput:
        """Compute `feature_maps` (batch, channels, rows, columns), one per stage, of `pixel_values`."""
        outputs = self.model(pixel_values, return_dict=True, **kwargs)
        maps = zip(self.stage_names, self.stage_maps(outputs), strict=True)
        return BackboneOutput(
            feature_maps=tuple(feature_map for stage, feature_map in maps if stage in self.out_features),
            hidden_states=outputs.hidden_states,
            attentions=outputs.get("attentions"),
        )
