"""Configuration of SFC's fine-grained correspondence over any backbone (Alxead/SFC)."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig

from ...configuration import VitsConfig
from ...models.res_net.configuration_res_net import ResNetConfig
from ..dino.configuration_dino import BackboneConfig, as_backbone_config


@strict
class SFCConfig(VitsConfig):
    """Configuration of fine-grained correspondence; the defaults are the published ResNet-18 at stride 8.

    Args:
        backbone_config: configuration of the backbone, any model of `AutoModel` whose tokens fill a grid; a dict must
            name its `model_type`. Correspondence needs a fine grid: strides (1, 2, 1, 1) of a ResNet, patches of 8
            pixels of a ViT. The teacher has the same backbone without stochastic depth.
        projection_hidden_size, projection_size: hidden and output channels of the projector.
        prediction_hidden_size: hidden channels of the predictor.
        positive_radius: distance, in cell diagonals, below which cells of two crops correspond.
    """

    model_type = "hf_vits_sfc"
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}
    size_fields = ("projection_hidden_size", "projection_size", "prediction_hidden_size", "positive_radius")

    backbone_config: BackboneConfig = None
    projection_hidden_size: int = 2048
    projection_size: int = 256
    prediction_hidden_size: int = 2048
    positive_radius: float = 0.5

    def __post_init__(self, **kwargs):
        if self.backbone_config is None:
            self.backbone_config = ResNetConfig(image_size=256, strides=[1, 2, 1, 1])
        self.backbone_config = as_backbone_config(self.backbone_config)
        super().__post_init__(**kwargs)


__all__ = ["SFCConfig"]
