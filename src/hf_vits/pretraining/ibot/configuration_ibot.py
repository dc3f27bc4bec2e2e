"""Configuration of iBOT and AttMask over any backbone (bytedance/ibot, gkakogeorgiou/attmask)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...models.deit.configuration_deit import DeiTConfig
from ..dino.configuration_dino import VIT_SMALL, DINOConfig


@strict
class IBOTConfig(DINOConfig):
    """Configuration of iBOT; the defaults are the published ViT-S/16. The fields of `DINOConfig` apply, and:

    Args:
        backbone_config: configuration of a backbone with use_mask_token=True, whose `forward` takes `bool_masked_pos`.
        num_patch_prototypes: output dimensions of the head for patches.
        share_head, share_teacher_head: whether class tokens and patches share the last layer, in the student and in
            the teacher.
        class_weight, patch_weight: factors of the two parts of the loss.
        teacher_patch_temperature: divides the teacher's logits of patches, unless a schedule sets another temperature.
        patch_center_momentum: weight of the old centre of patches at each step.
        masking: source of the masks: "given" with each batch, or "high", "hint" or "low" by the teacher's attention,
            see `AttentionMask`.
        mask_ratio, mask_ratio_spread: with masks by attention, the fraction of the patches that is masked, drawn for
            each batch from mask_ratio - mask_ratio_spread to mask_ratio + mask_ratio_spread.
        mask_probability: with masks by attention, the probability that an image is masked.
        hint_fraction: fraction of the patches, the most attended, from which "hint" reveals some.
    """

    model_type = "hf_vits_ibot"
    size_fields = (*DINOConfig.size_fields, "num_patch_prototypes", "teacher_patch_temperature")
    rate_fields = (*DINOConfig.rate_fields, "patch_center_momentum", "mask_ratio")

    num_prototypes: int = 8192
    num_patch_prototypes: int = 8192
    share_head: bool = True
    share_teacher_head: bool = True
    class_weight: float = 1.0
    patch_weight: float = 1.0
    teacher_patch_temperature: float = 0.04
    patch_center_momentum: float = 0.9
    masking: Literal["given", "high", "hint", "low"] = "given"
    mask_ratio: float = 0.3
    mask_ratio_spread: float = 0.2
    mask_probability: float = 0.5
    hint_fraction: float = 0.1

    def __post_init__(self, **kwargs):
        if self.backbone_config is None:
            self.backbone_config = DeiTConfig(**VIT_SMALL, use_mask_token=True)
        super().__post_init__(**kwargs)

    def check(self) -> None:
        super().check()
        if not getattr(self.backbone_config, "use_mask_token", False):
            raise ValueError(
                "iBOT masks patches: backbone_config must be of a backbone with use_mask_token=True, got a "
                f"{self.backbone_config.model_type} without"
            )
        shared = self.share_head or self.share_teacher_head
        if shared and self.num_prototypes != self.num_patch_prototypes:
            raise ValueError(
                "a shared head has as many prototypes for patches as for class tokens, got "
                f"num_prototypes={self.num_prototypes} and num_patch_prototypes={self.num_patch_prototypes}"
            )


__all__ = ["IBOTConfig"]
