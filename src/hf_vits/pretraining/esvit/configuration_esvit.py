"""Configuration of EsViT over any backbone (microsoft/esvit)."""

from huggingface_hub.dataclasses import strict

from ...models.swin.configuration_swin import SwinConfig
from ..dino.configuration_dino import DINOConfig


@strict
class EsViTConfig(DINOConfig):
    """Configuration of EsViT; the defaults are the published Swin-T/7. The fields of `DINOConfig` apply, and:

    Args:
        use_regions: whether there is a loss over regions (the tokens of the backbone's last stage) as well, each
            matched to a region of the teacher; student and teacher then have a second head of the same sizes.
    """

    model_type = "hf_vits_esvit"

    use_regions: bool = True

    def __post_init__(self, **kwargs):
        if self.backbone_config is None:
            self.backbone_config = SwinConfig(layer_norm_eps=1e-6, shift_like="image_size")
        super().__post_init__(**kwargs)


__all__ = ["EsViTConfig"]
