"""Configuration of MILAN over any backbone (zejiangh/MILAN)."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ...configuration import VitsConfig, pair
from ...models.vit.configuration_vit import ViTConfig
from ..dino.configuration_dino import BackboneConfig, as_backbone_config

# MILAN's ViT-B/16
VIT_BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "position_interpolation": "bicubic",
}
CLIP = "clip_vision_model"


@strict
class MILANConfig(VitsConfig):
    """Configuration of MILAN; the defaults are mae_vit_base_patch16 with features of CLIP ViT-B/16 as target.

    Args:
        backbone_config: configuration of the encoder, any model of `AutoModel`; a dict must name its `model_type`. A
            ViT computes the visible patches alone; for other encoders the masked patches are painted in the mean
            colour.
        target_config: configuration of the network whose features are predicted and whose attention guides the masks:
            transformers' CLIP image tower or an encoder of hf_vits. None: there is no such network, and its features
            and attention come with each batch.
        project_target: whether the features of a CLIP image tower pass through its projection.
        target: whether the "features" of the target network or the "pixels" of masked patches are predicted.
        target_size: channels of the target features; follows from `target_config` if that is given.
        normalize_targets: with pixels, whether target patches are normalised to mean 0 and variance 1.
        masking: "semantic" masks patches at random, those that the target network's class token attends to less often
            than others; "random" masks all equally often.
        mask_ratio: fraction of the patches that is masked.
        decoder_type: the "prompting" decoder updates masked patches alone; the "ordinary" one is MAE's.
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size: sizes
            of the decoder.
    """

    model_type = "hf_vits_milan"
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig, "target_config": AutoConfig}
    size_fields = (
        "target_size",
        "decoder_hidden_size",
        "decoder_num_hidden_layers",
        "decoder_num_attention_heads",
        "decoder_intermediate_size",
    )
    rate_fields = ("mask_ratio",)

    backbone_config: BackboneConfig = None
    target_config: BackboneConfig = None
    project_target: bool = True
    target: Literal["features", "pixels"] = "features"
    target_size: int = 512
    normalize_targets: bool = False
    masking: Literal["semantic", "random"] = "semantic"
    mask_ratio: float = 0.75
    decoder_type: Literal["prompting", "ordinary"] = "prompting"
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048

    def __post_init__(self, **kwargs):
        self.backbone_config = (
            ViTConfig(**VIT_BASE) if self.backbone_config is None else as_backbone_config(self.backbone_config)
        )
        if self.target_config is not None:
            self.target_config = as_backbone_config(self.target_config, "target_config")
            self.target_size = feature_size(self.target_config, self.project_target)
        super().__post_init__(**kwargs)

    @property
    def output_size(self) -> int:
        """Values that are predicted for a patch."""
        if self.target == "features":
            return self.target_size
        rows, columns = pair(self.backbone_config.patch_size)
        return rows * columns * self.backbone_config.num_channels

    def decoder_config(self) -> ViTConfig:
        """Return the configuration of the decoder's layers; the epsilon of its norms is the encoder's."""
        return ViTConfig(
            hidden_size=self.decoder_hidden_size,
            num_hidden_layers=self.decoder_num_hidden_layers,
            num_attention_heads=self.decoder_num_attention_heads,
            intermediate_size=self.decoder_intermediate_size,
            hidden_act="gelu",
            layer_norm_eps=getattr(self.backbone_config, "layer_norm_eps", 1e-6),
        )

    def check(self) -> None:
        super().check()
        if self.decoder_hidden_size % self.decoder_num_attention_heads or self.decoder_hidden_size % 4:
            raise ValueError(
                "decoder_hidden_size must be a multiple of 4 and of decoder_num_attention_heads, got "
                f"decoder_hidden_size={self.decoder_hidden_size} and "
                f"decoder_num_attention_heads={self.decoder_num_attention_heads}"
            )
        target = self.target_config
        if target is not None and target.model_type != CLIP and not target.model_type.startswith("hf_vits_"):
            raise ValueError(
                f"target_config must be of {CLIP!r} or of an encoder of hf_vits, got {target.model_type!r}; convert "
                "a ViT of transformers by hf_vits.conversion.from_transformers first"
            )
        channels = [
            getattr(config, "num_channels", 3) for config in (self.backbone_config, target or self.backbone_config)
        ]
        if channels[0] != channels[1]:
            raise ValueError(
                f"encoder and target network see the same images, but backbone_config.num_channels={channels[0]} and "
                f"target_config.num_channels={channels[1]}"
            )
        if self.target == "pixels" and self.backbone_config.model_type not in ("hf_vits_vit", "hf_vits_deit"):
            raise ValueError(
                'target="pixels" needs an encoder whose tokens are patches, a ViT or DeiT, got '
                f"{self.backbone_config.model_type!r}"
            )


def feature_size(config: PreTrainedConfig, project: bool) -> int:
    """Return the channels of the features of a target network."""
    if config.model_type == CLIP:
        return config.projection_dim if project else config.hidden_size
    sizes = getattr(config, "hidden_sizes", None)
    return sizes[-1] if sizes else config.hidden_size


__all__ = ["MILANConfig"]
