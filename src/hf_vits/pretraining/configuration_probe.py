"""What the configurations of probes share."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig

from ..configuration import VitsConfig
from .dino.configuration_dino import BackboneConfig, as_backbone_config


@strict
class ProbeConfig(VitsConfig):
    """Base of the configurations of probes.

    Args:
        backbone_config: configuration of the backbone, any model of `AutoModel`; a dict must name its `model_type`.
    """

    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}

    backbone_config: BackboneConfig = None

    def __post_init__(self, **kwargs):
        self.backbone_config = as_backbone_config(self.backbone_config)
        super().__post_init__(**kwargs)

    @property
    def image_size(self) -> int | list[int] | tuple[int, int]:
        return self.backbone_config.image_size

    @property
    def num_channels(self) -> int:
        return self.backbone_config.num_channels
