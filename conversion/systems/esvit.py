"""microsoft/esvit (.pth): backbones to `SwinModel` and `CvtModel`, full checkpoints to `EsViTForPreTraining`.

Variants have the names that its main_esvit.py gives architectures (`--arch`) and the size of the windows. Full
checkpoints are of views and regions, or of views alone, which the heads in them tell.
"""

import re

import torch
from transformers import PreTrainedModel

from hf_vits.pretraining.esvit.modeling_esvit import EsViTForPreTraining

from ..shared import self_distillation
from ..shared.self_distillation import (
    backbone_class,
    cvt,
    is_full,
    move_center,
    prepare_branches,
    processor,
    swin,
    transforms,
    with_training,
)
from .swin import BASE

SMALL = {"depths": [2, 2, 18, 2], "drop_path_rate": 0.2}
SWINS = {"tiny": {}, "small": SMALL, "base": {**BASE, "drop_path_rate": 0.2}}

VARIANTS = with_training(
    {f"swin_{size}_window{window}": swin(window, **fields) for window in (7, 14) for size, fields in SWINS.items()}
    | {"cvt_tiny_window7": cvt(7)}
)

# Heads hang on the backbone there, which has no name of its own.
HEAD = re.compile(r"head(_dense)?\.(mlp|last_layer)\.")
# Linear layers that CvT writes as convolutions.
POINTWISE = re.compile(r"\.fn\.(qkv\.pw|proj_out|net\.\d+)\.weight$")


def model_class(fields: dict) -> type[PreTrainedModel]:
    return EsViTForPreTraining if is_full(fields) else backbone_class(fields)


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    tensors = {named_part(key): value for key, value in tensors.items()}
    tensors = {key: value.flatten(1) if POINTWISE.search(key) else value for key, value in tensors.items()}
    tensors = prepare_branches(tensors, fields)
    if is_full(fields):
        move_center(tensors, "dino_loss.center", "center")
        move_center(tensors, "dino_loss.center_grid", "region_center", "region_head.last_layer")
    return tensors


def named_part(key: str) -> str:
    """The key without what data parallelism puts into it, and with a name for the backbone, as DINO's have."""
    key = key.replace("module.", "", 1)
    if key.startswith("dino_loss."):
        return key
    branch, inner = re.fullmatch(r"((?:student|teacher)\.)?(.*)", key).groups(default="")
    if HEAD.match(inner):
        return branch + inner.replace("head_dense.", "region_head.", 1)
    return f"{branch}backbone.{inner}"


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = self_distillation.infer(tensors, fields)
    if is_full(fields):
        inferred["use_regions"] = "student.region_head.last_layer.weight_g" in tensors
    return inferred


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
