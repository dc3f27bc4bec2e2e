"""facebookresearch/dino (.pth): backbones to `DeiTModel`, full checkpoints to `DINOForPreTraining`.

Variants have the names of its factory functions (vision_transformer.py) and the patch size.
"""

import torch
from transformers import PreTrainedModel

from hf_vits.pretraining.dino.modeling_dino import DINOForPreTraining

from ..shared.self_distillation import (
    encoder_class,
    infer,
    is_full,
    move_center,
    prepare_branches,
    processor,
    transforms,
    vit,
    with_training,
)

VARIANTS = with_training(
    {
        "vit_small_patch16": vit("small", 16),
        "vit_small_patch8": vit("small", 8),
        "vit_base_patch16": vit("base", 16),
        "vit_base_patch8": vit("base", 8),
    }
)


def model_class(fields: dict) -> type[PreTrainedModel]:
    return DINOForPreTraining if is_full(fields) else encoder_class(fields)


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    tensors = prepare_branches(tensors, fields)
    if is_full(fields):
        move_center(tensors, "dino_loss.center", "center")
    return tensors


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
