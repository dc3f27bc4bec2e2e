"""bytedance/ibot (.pth): backbones to `DeiTModel` and `SwinModel`, full checkpoints to `IBOTForPreTraining`.

Fine-tuned models (evaluation/classification_layer_decay) become classifiers. Without `--disable_rel_pos_bias` they
have BEiT's relative positions, without `--abs_pos_emb` no others.

Variants have the names of its factory functions (models/) and the size of patch or window.
"""

import torch
from transformers import PreTrainedModel

from hf_vits.pretraining.ibot.modeling_ibot import IBOTForPreTraining

from ..shared import self_distillation
from ..shared.inference import found, size
from ..shared.self_distillation import (
    encoder_class,
    is_full,
    move_center,
    prepare_branches,
    processor,
    swin,
    transforms,
    vit,
    with_training,
)

VARIANTS = with_training(
    {f"vit_{size}_patch16": vit(size, 16) for size in ("small", "base", "large")}
    | {f"swin_tiny_window{size}": swin(size) for size in (7, 14)},
    use_mask_token=True,
)


def model_class(fields: dict) -> type[PreTrainedModel]:
    return IBOTForPreTraining if is_full(fields) else encoder_class(fields)


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return tensors under our names for loss and mask token.

    A teacher has no mask token: a file with the teacher alone gives the student zeros, the value at the start.
    """
    tensors = prepare_branches(tensors, fields)
    if is_full(fields):
        width = size(tensors, "student.backbone.patch_embed.proj.bias")
        if width is not None:
            tensors.setdefault("student.backbone.masked_embed", torch.zeros(1, 1, width))
        move_center(tensors, "ibot_loss.center", "center")
        move_center(tensors, "ibot_loss.center2", "patch_center", patch_layer(tensors))
    return tensors


def patch_layer(tensors: dict[str, torch.Tensor]) -> str:
    """Return the name of the student's last layer for patches, which may be the one for class tokens."""
    own = "head.last_layer2"
    return own if f"student.{own}.weight_g" in tensors else "head.last_layer"


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = self_distillation.infer(tensors, fields)
    if not is_full(fields):
        return inferred
    inferred |= found(num_patch_prototypes=size(tensors, f"student.{patch_layer(tensors)}.weight_g"))
    return inferred | {
        "share_head": "student.head.last_layer2.weight_g" not in tensors,
        "share_teacher_head": "teacher.head.last_layer2.weight_g" not in tensors,
    }


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
