"""bytedance/ibot (.pth): backbones to `DeiTModel` and `SwinModel`, full checkpoints to `IBOTForPreTraining`.

Variants have the names of its factory functions (models/) and the size of patch or window.
"""

import torch
from transformers import PreTrainedModel

from hf_vits.pretraining.ibot.configuration_ibot import IBOTConfig
from hf_vits.pretraining.ibot.modeling_ibot import IBOTForPreTraining

from .self_distillation import (
    backbone_class,
    backbone_renamings,
    full_backbone,
    full_renamings,
    infer_backbone,
    infer_head,
    is_full,
    prepare_branches,
    processor,
    swin,
    vit,
    with_training,
)

VARIANTS = with_training(
    {f"vit_{size}_patch16": vit(size, 16) for size in ("small", "base", "large")}
    | {f"swin_tiny_window{size}": swin(size) for size in (7, 14)},
    use_mask_token=True,
)


def model_class(fields: dict) -> type[PreTrainedModel]:
    return IBOTForPreTraining if is_full(fields) else backbone_class(fields)


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Where only a teacher's entry is there, which masks nothing, the student's mask token starts as it does anew."""
    tensors = prepare_branches(tensors, fields)
    if is_full(fields) and "student.head.last_layer.weight_g" in tensors:
        token = torch.zeros(1, 1, len(tensors["student.backbone.patch_embed.proj.bias"]))
        tensors["student.backbone.masked_embed"] = tensors.get("student.backbone.masked_embed", token)
        for ours, theirs, size in (
            ("center", "center", num_prototypes(tensors)),
            ("patch_center", "center2", num_patch_prototypes(tensors)),
        ):
            center = tensors.pop(f"ibot_loss.{theirs}", torch.zeros(size))
            tensors[f"objective.{ours}.value"] = center.flatten()
    return tensors


def num_prototypes(tensors: dict[str, torch.Tensor]) -> int:
    return len(tensors["student.head.last_layer.weight_g"])


def num_patch_prototypes(tensors: dict[str, torch.Tensor]) -> int:
    return len(tensors.get("student.head.last_layer2.weight_g", tensors["student.head.last_layer.weight_g"]))


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    if not is_full(fields):
        return infer_backbone(tensors, fields)
    inferred = infer_head(tensors) | {"backbone_config": full_backbone(tensors, fields)}
    if inferred.keys() >= {"num_prototypes"}:
        inferred["num_patch_prototypes"] = num_patch_prototypes(tensors)
    return inferred | {
        "share_head": "student.head.last_layer2.weight_g" not in tensors,
        "share_teacher_head": "teacher.head.last_layer2.weight_g" not in tensors,
    }


def transforms(config) -> list:
    return full_renamings(config) if isinstance(config, IBOTConfig) else backbone_renamings(config)


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
