"""What the configurations of all architectures share. Imports no torch."""

from typing import Literal

from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig


class VitsConfig(PreTrainedConfig):
    """Base of every configuration: early, named validation errors.

    Subclasses list their fields under `@strict`; the type and, for `Literal`, the allowed values of a field are
    checked by it. What relates fields to one another is checked in `check`, at construction and again on saving.

    Attributes:
        rate_fields: names of fields that are probabilities.
        size_fields: names of fields that must be positive.
    """

    rate_fields = ()
    size_fields = ()
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
            # Names the code beside the weights, which only a class from a repository needs: kept, it would be saved
            # with a model and lead to code that is not there.
            kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        self.check()

    @property
    def num_prefix_tokens(self) -> int:
        """How many class or distillation tokens stand before the patch tokens."""
        return 0

    @property
    def pooler_size(self) -> int:
        """Channels of `pooler_output`, which the classifier reads."""
        return self.hidden_size

    def check(self) -> None:
        """Raise ValueError, naming field, value and what is allowed, where fields do not fit together."""
        for name in self.size_fields:
            values = getattr(self, name)
            for value in values if isinstance(values, list | tuple) else [values]:
                if value is not None and value <= 0:
                    raise ValueError(f"{name} must be positive, got {name}={values}")
        for name in self.rate_fields:
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {name}={value}")

    def check_heads(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got hidden_size={self.hidden_size} and "
                f"num_attention_heads={self.num_attention_heads}"
            )

    def validate_architecture(self):
        """Part of `@strict`'s validation, which transformers repeats when a configuration is saved."""
        self.check()


class LocalityConfig(VitsConfig):
    """Base of the configurations of encoders whose layers can have the feed-forward of LocalViT (arXiv 2104.05707).

    Attributes:
        feed_forward: second half of a layer: "mlp", or "locality", an inverted residual of convolutions on the grid
            of tokens, without a norm in front; prefix tokens skip it.
        locality_act: activation after its first two convolutions, a name of transformers' `ACT2FN`.
        depthwise_convolution: whether its second convolution, 3x3 and depth-wise, is there.
        channel_attention: what weights the channels after that: "squeeze_excitation"; "efficient" (ECA), with a
            sigmoid; "efficient_hard", with a hard sigmoid; or "none".
    """

    feed_forward: Literal["mlp", "locality"] = "mlp"
    locality_act: str = "hardswish"
    depthwise_convolution: bool = True
    channel_attention: Literal["squeeze_excitation", "efficient", "efficient_hard", "none"] = "squeeze_excitation"


class VitsBackboneConfig(BackboneConfigMixin, VitsConfig):
    """Base of the configurations of image encoders, which can serve as backbones: adds the stages to choose from."""

    def __post_init__(self, **kwargs):
        self.stage_names = self.make_stage_names()
        out_features, out_indices = kwargs.pop("out_features", None), kwargs.pop("out_indices", None)
        super().__post_init__(**kwargs)
        self.set_output_features_output_indices(out_features=out_features, out_indices=out_indices)

    def make_stage_names(self) -> list[str]:
        """Names of the feature maps that the backbone can return: the stem, then one per layer or stage."""
        return ["stem", *(f"stage{index}" for index in range(1, self.num_hidden_layers + 1))]


class VitsHierarchicalConfig(VitsBackboneConfig):
    """Base of the configurations of encoders in stages, each on a coarser grid: `depths` and `hidden_sizes` per stage.

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
        """Channels of the map that enters the first stage."""
        return self.hidden_sizes[0]

    @property
    def num_hidden_layers(self) -> int:
        """How many stages there are, as in transformers' configurations of such encoders."""
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
