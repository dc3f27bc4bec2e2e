"""Base classes of all configurations. Imports no torch."""

from typing import Literal

from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig

# Names of activations, the keys of transformers' `ACT2FN`, whose module imports torch.
ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
    *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu"),
    *("relu2", "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh", "xielu"),
)


class VitsConfig(PreTrainedConfig):
    """Base of every configuration: validates its fields at construction, with errors that name the field.

    Subclasses list their fields under `@strict`, which checks types and, for `Literal`, the allowed values. `check`
    compares fields with one another; it runs at construction and again on saving.

    Attributes:
        rate_fields: names of fields that are probabilities, in [0, 1).
        size_fields: names of fields that must be positive.
        more_activations: names that fields for activations, whose names end in "_act", may have besides
            `ACTIVATIONS`: {field: names}.
    """

    rate_fields = ()
    size_fields = ()
    more_activations = {}
    # Outputs beside the logits, which transformers' Trainer does not pass to `compute_metrics`.
    keys_to_ignore_at_inference = [
        *("hidden_states", "attentions", "query_states", "key_states", "value_states", "layer_states"),
        *("cls_logits", "distillation_logits", "token_logits", "lengths", "branch_weights"),
        *("cache", "past_key_values", "decoder_hidden_states", "decoder_attentions", "cross_attentions"),
        *("encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions"),
        *("ctc_logits", "ctc_loss", "decoder_loss"),
    ]

    def __post_init__(self, **kwargs):
        if not type(self).__module__.startswith("transformers_modules."):
            # `auto_map` names code files beside the weights. A class of the package has none there, so the entry must
            # not be saved again with a model.
            kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        self.check()

    @property
    def num_prefix_tokens(self) -> int:
        """Number of class or distillation tokens before the patch tokens."""
        return 0

    @property
    def pooler_size(self) -> int:
        """Channels of `pooler_output`, the classifier's input."""
        return self.hidden_size

    def check(self) -> None:
        """Raise ValueError, naming field, value and allowed values, where fields do not fit together."""
        for name in self.size_fields:
            values = getattr(self, name)
            for value in values if isinstance(values, list | tuple) else [values]:
                if value is not None and value <= 0:
                    raise ValueError(f"{name} must be positive, got {name}={values}")
        for name in self.rate_fields:
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {name}={value}")
        for name in (name for name in vars(self) if name.endswith("_act")):
            value, names = getattr(self, name), (*ACTIVATIONS, *self.more_activations.get(name, ()))
            if value is not None and value not in names:
                raise ValueError(f"{name} must be one of {', '.join(names)}, got {name}={value!r}")

    def check_heads(self) -> None:
        """Raise ValueError unless `num_attention_heads` divides `hidden_size`."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got hidden_size={self.hidden_size} and "
                f"num_attention_heads={self.num_attention_heads}"
            )

    def validate_architecture(self):
        """Run `check` as part of `@strict`'s validation, which transformers repeats on saving."""
        self.check()


class LocalityConfig(VitsConfig):
    """Base of the configurations of encoders that can have LocalViT's feed-forward (arXiv 2104.05707).

    Attributes:
        feed_forward: second half of a layer: "mlp", or "locality", an inverted residual of convolutions on the grid
            of tokens, without a norm before it; prefix tokens skip it.
        locality_act: activation after the first two convolutions, a name of transformers' `ACT2FN`.
        depthwise_convolution: whether the second convolution, 3x3 and depth-wise, exists.
        channel_attention: how channels are weighted after the second convolution: by "squeeze_excitation"; by
            "efficient" channel attention (ECA) with a sigmoid, or "efficient_hard" with a hard sigmoid; or "none".
    """

    feed_forward: Literal["mlp", "locality"] = "mlp"
    locality_act: str = "hardswish"
    depthwise_convolution: bool = True
    channel_attention: Literal["squeeze_excitation", "efficient", "efficient_hard", "none"] = "squeeze_excitation"


class VitsBackboneConfig(BackboneConfigMixin, VitsConfig):
    """Base of the configurations of image encoders that can be backbones: adds the choice of feature maps."""

    def __post_init__(self, **kwargs):
        self.stage_names = self.make_stage_names()
        out_features, out_indices = kwargs.pop("out_features", None), kwargs.pop("out_indices", None)
        super().__post_init__(**kwargs)
        self.set_output_features_output_indices(out_features=out_features, out_indices=out_indices)

    def make_stage_names(self) -> list[str]:
        """Return the names of the feature maps: "stem", then "stage<n>" for each layer or stage."""
        return ["stem", *(f"stage{index}" for index in range(1, self.num_hidden_layers + 1))]


class VitsHierarchicalConfig(VitsBackboneConfig):
    """Base of the configurations of hierarchical encoders, with `depths` and `hidden_sizes` per stage.

    Attributes:
        stage_fields: names of the fields with one value per stage.
    """

    stage_fields = ("depths", "hidden_sizes", "num_attention_heads")

    @property
    def hidden_size(self) -> int:
        """Channels of the last stage."""
        return self.hidden_sizes[-1]

    @property
    def stem_size(self) -> int:
        """Channels of the feature map that enters the first stage."""
        return self.hidden_sizes[0]

    @property
    def num_hidden_layers(self) -> int:
        """Number of stages, as in transformers' configurations of hierarchical encoders."""
        return len(self.depths)

    def check(self) -> None:
        super().check()
        for name in self.stage_fields:
            if len(getattr(self, name)) != len(self.depths):
                raise ValueError(
                    f"{name} needs one value per stage, as depths={self.depths} has, got {name}={getattr(self, name)}"
                )

    def check_heads(self) -> None:
        for hidden_size, num_heads in zip(self.hidden_sizes, self.num_attention_heads, strict=True):
            if hidden_size % num_heads:
                raise ValueError(
                    "every stage's hidden_sizes must be a multiple of its num_attention_heads, got "
                    f"hidden_sizes={self.hidden_sizes} and num_attention_heads={self.num_attention_heads}"
                )


__all__ = ["LocalityConfig", "VitsBackboneConfig", "VitsConfig", "VitsHierarchicalConfig"]
