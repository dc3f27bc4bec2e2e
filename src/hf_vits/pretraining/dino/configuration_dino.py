"""Configuration of DINO over any backbone (facebookresearch/dino)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ...configuration import VitsConfig, nested_config
from ...models.deit.configuration_deit import DeiTConfig

# What is given may be a dict; from construction on it is a configuration, with the fields of whatever backbone.
if TYPE_CHECKING:
    BackboneConfig = Any
else:
    BackboneConfig = dict[str, Any] | PreTrainedConfig | None

# DINO's ViT-S/16
VIT_SMALL = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "position_interpolation": "bicubic_offset",
}


def as_backbone_config(
    config: dict[str, Any] | PreTrainedConfig | None, name: str = "backbone_config"
) -> PreTrainedConfig:
    """Return the configuration in field `name` from a dict of fields or a configuration; None for DINO's ViT-S/16."""
    return nested_config(name, config, {"model_type": DeiTConfig.model_type, **VIT_SMALL})


@strict
class DINOConfig(VitsConfig):
    """Configuration of DINO; the defaults are the published ViT-S/16.

    Args:
        backbone_config: configuration of the backbone, any model of `AutoModel` with a `pooler_output`; a dict must
            name its `model_type`. The teacher has the same backbone without stochastic depth.
        num_prototypes: output dimensions of the head.
        head_hidden_size, head_bottleneck_size, num_head_layers: hidden and output channels and number of layers of the
            head's MLP.
        head_norm: norm between the MLP's layers.
        train_magnitude: whether the magnitudes of the head's weight-normalised last layer are trained (the original's
            norm_last_layer false).
        student_temperature: divides the student's logits.
        teacher_temperature: divides the teacher's logits, unless a schedule sets another temperature.
        center_momentum: weight of the old centre at each step.
    """

    model_type = "hf_vits_dino"
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}
    size_fields = ("num_prototypes", "head_hidden_size", "head_bottleneck_size", "num_head_layers")
    size_fields += ("student_temperature", "teacher_temperature")
    rate_fields = ("center_momentum",)

    backbone_config: BackboneConfig = None
    num_prototypes: int = 65536
    head_hidden_size: int = 2048
    head_bottleneck_size: int = 256
    num_head_layers: int = 3
    head_norm: Literal["batch_norm", "layer_norm"] | None = None
    train_magnitude: bool = True
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    center_momentum: float = 0.9

    def __post_init__(self, **kwargs):
        self.backbone_config = as_backbone_config(self.backbone_config)
        super().__post_init__(**kwargs)

    def check(self) -> None:
        super().check()
        if getattr(self.backbone_config, "pooling", None) == "none":
            raise ValueError(
                "the projection head takes one vector of each image: backbone_config must pool the tokens, as "
                'with pooling="token" or "mean", got pooling="none"'
            )


__all__ = ["DINOConfig"]
