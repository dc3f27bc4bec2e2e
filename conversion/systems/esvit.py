"""microsoft/esvit (.pth): backbones to `SwinModel` and `CvtModel`, full checkpoints to `EsViTForPreTraining`.

Variants have the names of architectures in its main_esvit.py (`--arch`) and the size of the windows. A full checkpoint
was trained on views and regions if it has a region head, else on views only.
"""

import re

import torch
from transformers import PreTrainedModel

from hf_vits.pretraining.esvit.modeling_esvit import EsViTForPreTraining

from ..shared import self_distillation
from ..shared.self_distillation import (
    cvt,
    encoder_class,
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

# Keys of the heads: the original's backbone has no prefix, and the heads are its modules.
HEAD = re.compile(r"head(_dense)?\.(mlp|last_layer)\.")
# Linear layers of CvT that are 1x1 convolutions in the original.
POINTWISE = re.compile(r"\.fn\.(qkv\.pw|proj_out|net\.\d+)\.weight$")


def model_class(fields: dict) -> type[PreTrainedModel]:
    return EsViTForPreTraining if is_full(fields) else encoder_class(fields)


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    tensors = {named_part(key): value for key, value in tensors.items() if not key.endswith(".rel_pos_idx")}
    tensors = {
        key: value.flatten(1) if value.ndim > 1 and POINTWISE.search(key) else value for key, value in tensors.items()
    }
    tensors = prepare_branches(tensors, fields)
    if is_full(fields):
        move_center(tensors, "dino_loss.center", "center")
        move_center(tensors, "dino_loss.center_grid", "region_center", "region_head.last_layer")
    return tensors


def named_part(key: str) -> str:
    """Return the key without the prefix of data parallelism and with `backbone.`, as DINO's keys have it."""
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
