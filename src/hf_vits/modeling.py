"""What the models of all architectures share: base class, outputs, backbones and task heads."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput, BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, can_return_tuple
from transformers.utils.output_capturing import OutputRecorder

from .layers.attention import QueryKeyValue, SelfAttention


@dataclass
class EncoderOutput(BaseModelOutputWithPooling):
    """Output of a base model.

    last_hidden_state: (batch, tokens, channels), prefix tokens first, `config.num_prefix_tokens` of them.
    pooler_output: (batch, channels), what the original's classifier sees.
    hidden_states: the input of the first layer and the output of each, with `output_hidden_states=True`.
    attentions: (batch, heads, tokens, tokens) per layer, with `output_attentions=True` and eager attention.
    query_states, key_states, value_states: (batch, heads, tokens, head_dim) per layer, each on request with
        `output_query_states=True`, `output_key_states=True`, `output_value_states=True`.
    """

    query_states: tuple[torch.FloatTensor, ...] | None = None
    key_states: tuple[torch.FloatTensor, ...] | None = None
    value_states: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class ClassifierOutput(ImageClassifierOutput):
    """Output of an image classifier: loss (scalar, if labels were given), logits (batch, num_labels), recorded states.

    The recorded states are those of `EncoderOutput`.
    """

    query_states: tuple[torch.FloatTensor, ...] | None = None
    key_states: tuple[torch.FloatTensor, ...] | None = None
    value_states: tuple[torch.FloatTensor, ...] | None = None


def recorded_states(outputs: EncoderOutput) -> dict:
    """What a head hands on from its base model's output."""
    names = ("hidden_states", "attentions", "query_states", "key_states", "value_states")
    return {name: outputs[name] for name in names if name in outputs}


class VitsPreTrainedModel(PreTrainedModel):
    """Base class of every model: an image encoder whose heads hold it as `model`."""

    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
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
        "attentions": OutputRecorder(SelfAttention, index=1),
        "query_states": OutputRecorder(QueryKeyValue, index=0),
        "key_states": OutputRecorder(QueryKeyValue, index=1),
        "value_states": OutputRecorder(QueryKeyValue, index=2),
    }


class ForImageClassification:
    """A linear classifier on `pooler_output`; mixed into an architecture's pretrained class.

    Attributes:
        model_class: the base model to build.
    """

    model_class: type[PreTrainedModel]

    def __init__(self, config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = self.model_class(config)
        self.classifier = nn.Linear(config.pooler_size, config.num_labels) if config.num_labels else nn.Identity()
        self.post_init()

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
            labels: (batch,) class indices, or (batch, num_labels) for regression and multi-label problems; the loss
                follows `config.problem_type` as everywhere in transformers.
        """
        outputs = self.model(pixel_values, **kwargs)
        logits = self.classifier(outputs.pooler_output)
        loss = None if labels is None else self.loss_function(labels, logits, self.config, **kwargs)
        return ClassifierOutput(loss=loss, logits=logits, **recorded_states(outputs))


class IsotropicBackbone(BackboneMixin):
    """Feature maps of a model whose token grid is the same in every layer; mixed into its pretrained class.

    Stage "stem" is what enters the first layer, "stage<n>" what leaves layer n, each through the final norm unless
    `config.apply_layernorm` is False.
    """

    model_class: type[PreTrainedModel]
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
