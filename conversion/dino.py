"""facebookresearch/dino (.pth): backbones to `DeiTModel`, full checkpoints to `DINOForPreTraining`.

Variants have the names of its factory functions (vision_transformer.py) and the patch size.
"""

import torch

from hf_vits.models.deit.modeling_deit import DeiTModel
from hf_vits.pretraining.dino.configuration_dino import DINOConfig
from hf_vits.pretraining.dino.modeling_dino import DINOForPreTraining

from .self_distillation import (
    backbone_renamings,
    full_backbone,
    full_renamings,
    infer_backbone,
    infer_head,
    is_full,
    prepare_branches,
    processor,
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


def model_class(fields: dict) -> type[DeiTModel] | type[DINOForPreTraining]:
    return DINOForPreTraining if is_full(fields) else DeiTModel


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    tensors = prepare_branches(tensors, fields)
    if is_full(fields) and "student.head.last_layer.weight_g" in tensors:
        size = len(tensors["student.head.last_layer.weight_g"])
        tensors["objective.center.value"] = tensors.pop("dino_loss.center", torch.zeros(size)).flatten()
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    if not is_full(fields):
        return infer_backbone(tensors, fields)
    return infer_head(tensors) | {"backbone_config": full_backbone(tensors, fields)}


def transforms(config) -> list:
    return full_renamings(config) if isinstance(config, DINOConfig) else backbone_renamings(config)


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
