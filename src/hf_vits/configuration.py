"""Base classes of all configurations. Imports no torch."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig

# Names of activations, the keys of transformers' `ACT2FN`, whose module imports torch.
ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
    *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu"),
    *("relu2", "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh", "xielu"),
)

# Names of the dtypes that weights can have.
DTYPES = ("float32", "float16", "bfloat16", "float64")
PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")
# {part of a field's name: largest value}; beyond it, the field is a mistake, and the weights would fill any memory.
LARGEST = {
    "vocab": 2**24,
    "modalities": 2**26,
    "hidden_size": 2**15,
    "image_size": 2**14,
    "patch_size": 2**10,
    "layers": 2**10,
    "depths": 2**10,
    "heads": 2**12,
    "kernel_size": 2**8,
    "window_size": 2**7,
    "thresholds": 10**8,
}
LARGEST_OTHER = 2**18


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
        if kwargs.get("num_labels", 0) is None:
            del kwargs["num_labels"]
        self.check_shared(kwargs)
        super().__post_init__(**kwargs)
        self.check()

    def check_shared(self, options: dict[str, Any]) -> None:
        """Raise ValueError or TypeError for odd values of transformers' own fields, which it takes unseen.

        Args:
            options: keyword arguments of the constructor that are no fields.
        """
        dtype = options.get("torch_dtype") if self.dtype is None else self.dtype
        if dtype is not None and str(dtype).removeprefix("torch.") not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got dtype={dtype!r}")
        fields = {"return_dict": bool, "output_hidden_states": int | list, "is_encoder_decoder": bool}
        fields |= {"chunk_size_feed_forward": int, "label2id": dict}
        values = options | {name: getattr(self, name) for name in fields}
        fields |= {"attn_implementation": str | dict, "output_attentions": bool}
        for name, types in fields.items():
            value = values.get(name)
            if value is not None and not isinstance(value, types):
                raise TypeError(f"{name} must be {types}, got {name}={value!r}")
        if not all(isinstance(name, str) and str(number).isdigit() for name, number in (self.label2id or {}).items()):
            raise ValueError(f"label2id must give each name, a string, a number, got label2id={self.label2id!r}")
        if self.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type must be one of {PROBLEM_TYPES}, got problem_type={self.problem_type!r}")
        check_labels(self.id2label, options.get("num_labels"))

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
        for field in dataclasses.fields(self):
            check_numbers(field.name, getattr(self, field.name))
            check_length(field.name, getattr(self, field.name), field.type)
        for name in self.size_fields:
            values = getattr(self, name)
            for value in values if isinstance(values, list | tuple) else [values]:
                if value is not None and value <= 0:
                    raise ValueError(f"{name} must be positive, got {name}={values}")
        for name in self.rate_fields:
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {name}={value}")
        for name in (name for name in vars(self) if name.endswith("initializer_range")):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {name}={value}")
        for name in (name for name in vars(self) if name.endswith("_act")):
            value, names = getattr(self, name), (*ACTIVATIONS, *self.more_activations.get(name, ()))
            if value is not None and value not in names:
                raise ValueError(f"{name} must be one of {', '.join(names)}, got {name}={value!r}")

    def check_heads(self, name: str = "hidden_size") -> None:
        """Raise ValueError unless `num_attention_heads` divides `hidden_size`, which field `name` sets."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"{name} must be a multiple of num_attention_heads, got {name}={self.hidden_size} and "
                f"num_attention_heads={self.num_attention_heads}"
            )

    def check_patches(self, field: str = "patch_size", cell: int = 1) -> None:
        """Raise ValueError unless patches fill `image_size`; their size ends in (height, width), in `cell` pixels."""
        patch_size = getattr(self, field)
        patch = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size[-2:]
        # A map of cells is rounded up.
        if any(-(-side // cell) % length for side, length in zip(pair(self.image_size), patch, strict=True)):
            unit = f", in cells of {cell} pixels that stem_depths={self.stem_depths} leave" if cell > 1 else ""
            raise ValueError(
                f"image_size must be a multiple of {field} in height and width{unit}, got "
                f"image_size={self.image_size} and {field}={patch_size}"
            )

    def check_ratio(self, field: str, sizes: list[int] | tuple[int, ...]) -> None:
        """Raise ValueError where a ratio of channels, one for all or one for each of `sizes`, leaves none."""
        value = getattr(self, field)
        ratios = value if isinstance(value, list | tuple) else [value] * len(sizes)
        if any(int(size * ratio) < 1 for size, ratio in zip(sizes, ratios, strict=True)):
            raise ValueError(f"{field} must leave at least one of {sizes} channels, got {field}={value}")

    def validate_architecture(self):
        """Run `check` as part of `@strict`'s validation, which transformers repeats on saving."""
        self.check()


def pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """Return a size given as one number or as two as (height, width)."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def check_labels(id2label: dict | None, num_labels: int | None) -> None:
    """Raise ValueError or TypeError unless classes are numbered from 0 without a gap."""
    if id2label is not None and not isinstance(id2label, dict):
        raise TypeError(f"id2label must be a dict {{number: name}}, got id2label={id2label!r}")
    if num_labels is not None and (not isinstance(num_labels, int) or isinstance(num_labels, bool)):
        raise TypeError(f"num_labels must be a whole number, got num_labels={num_labels!r}")
    if num_labels is not None and not 0 <= num_labels <= LARGEST_OTHER:
        raise ValueError(f"num_labels must lie in [0, {LARGEST_OTHER}], got num_labels={num_labels}")
    if id2label is not None and {str(key) for key in id2label} != {str(index) for index in range(len(id2label))}:
        keys = ", ".join(repr(key) for key in list(id2label)[:5])
        raise ValueError(
            f"id2label must name the classes 0 to {len(id2label) - 1}, each once, as it has {len(id2label)} names, "
            f"got names for {keys}{', ...' if len(id2label) > 5 else ''}"
        )


def numbers(value: Any) -> Iterator[float]:
    """Yield a number, or the numbers of a list or tuple at any depth."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield value


def check_numbers(name: str, value: Any) -> None:
    """Raise ValueError where a field has a number that is not finite or too large for any model."""
    largest = next((size for part, size in LARGEST.items() if part in name), LARGEST_OTHER)
    for number in numbers(value):
        if not math.isfinite(number) or abs(number) > largest:
            raise ValueError(f"{name} must be finite and at most {largest}, got {name}={value}")


def check_length(name: str, value: Any, annotation: Any) -> None:
    """Raise ValueError for a list whose length is not that of the tuple that the field may be instead."""
    tuples = [get_args(part) for part in get_args(annotation) if get_origin(part) is tuple]
    if isinstance(value, list) and tuples and Ellipsis not in tuples[0] and len(value) != len(tuples[0]):
        raise ValueError(f"{name} must have {len(tuples[0])} values, got {name}={value}")


def nested_config(
    name: str,
    config: dict[str, Any] | PreTrainedConfig | None,
    default: dict[str, Any],
    own: type[PreTrainedConfig] | None = None,
) -> PreTrainedConfig:
    """Return the configuration of a part that may be any model of `AutoModel`.

    Args:
        name: of the field, for messages.
        config: a configuration, or a dict of its fields with its `model_type`; None for `default`.
        own: class that needs no registration, as where a repository brings its code along.

    Raises:
        ValueError: a dict has no `model_type`.
    """
    from transformers import AutoConfig  # its import registers the configurations, which need this module

    config = default if config is None else config
    if not isinstance(config, dict):
        return config
    if "model_type" not in config:
        raise ValueError(
            f"{name} must name its model_type, such as {default['model_type']!r}, got only "
            f"{', '.join(sorted(config)) or 'an empty dict'}"
        )
    if own is not None and config["model_type"] == own.model_type:
        return own(**{field: value for field, value in config.items() if field != "model_type"})
    return AutoConfig.for_model(**config)


def check_maps(backbone_config: PreTrainedConfig) -> None:
    """Raise ValueError where a backbone would return sequences of tokens instead of feature maps."""
    if not getattr(backbone_config, "reshape_hidden_states", True):
        raise ValueError("feature maps are needed of the backbone: leave its reshape_hidden_states True")


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
        out_features, out_indices = kwargs.pop("out_features", None), kwargs.pop("out_indices", None)
        super().__post_init__(**kwargs)
        self.stage_names = self.make_stage_names()
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
        if not self.depths:
            raise ValueError(f"depths needs a number of layers for at least one stage, got depths={self.depths}")
        for name in self.stage_fields:
            if len(getattr(self, name)) != len(self.depths):
                raise ValueError(
                    f"{name} needs one value per stage, as depths={self.depths} has, got {name}={getattr(self, name)}"
                )

        for name in ("mlp_ratio", "mlp_ratios"):
            if hasattr(self, name):
                self.check_ratio(name, self.hidden_sizes)

    def check_heads(self) -> None:
        for hidden_size, num_heads in zip(self.hidden_sizes, self.num_attention_heads, strict=True):
            if hidden_size % num_heads:
                raise ValueError(
                    "every stage's hidden_sizes must be a multiple of its num_attention_heads, got "
                    f"hidden_sizes={self.hidden_sizes} and num_attention_heads={self.num_attention_heads}"
                )


__all__ = ["LocalityConfig", "VitsBackboneConfig", "VitsConfig", "VitsHierarchicalConfig"]
