"""Checkpoints of students and teachers: facebookresearch/dino, bytedance/ibot, gkakogeorgiou/attmask, microsoft/esvit.

A backbone alone becomes a `DeiTModel`, which is the ViT that these repositories write down (DINO calls it DeiT-S in
the names of its files), a `SwinModel` or a `CvtModel`; a full training checkpoint, of variants that end in `_full`,
the model that trains it. Of a full checkpoint a backbone's variant takes the teacher.
"""

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.cvt.configuration_cvt import CvtConfig
from hf_vits.models.cvt.modeling_cvt import CvtModel
from hf_vits.models.deit.configuration_deit import DeiTConfig
from hf_vits.models.deit.modeling_deit import DeiTModel
from hf_vits.models.swin.configuration_swin import SwinConfig
from hf_vits.models.swin.modeling_swin import SwinModel
from hf_vits.pretraining.dino.configuration_dino import DINOConfig

from ..systems.cvt import infer_windowed, window_renamings
from ..systems.swin import infer_swin, swin_renamings
from ..systems.swin import prepare as without_tables
from .preprocessing import resize_and_crop
from .timm_vit import infer_image_size, infer_vit, vit_fields, vit_renamings

# hidden_size, num_hidden_layers, num_attention_heads
SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
BRANCHES = ("student", "teacher")
FULL = "_full"


def vit(size: str, patch_size: int) -> dict:
    """Fields of a ViT, as DINO writes it."""
    return vit_fields(*SIZES[size], patch_size, position_interpolation="bicubic_offset")


def swin(window_size: int, **more) -> dict:
    """Fields of a Swin, as iBOT and EsViT write it: Swin-T unless `more` says otherwise."""
    return {"window_size": window_size, "layer_norm_eps": 1e-6, "shift_like": "image_size"} | more


def with_training(backbones: dict[str, dict], **more) -> dict[str, dict]:
    """Variants of backbones and, with `_full` after the name, of the models that train them.

    Args:
        more: fields of the backbones in training.
    """
    types = {name: backbone_class(fields).config_class.model_type for name, fields in backbones.items()}
    return backbones | {
        f"{name}{FULL}": {"backbone_config": {"model_type": types[name], **fields, **more}}
        for name, fields in backbones.items()
    }


def cvt(window_size: int) -> dict:
    """Fields of a CvT-T, as EsViT writes it."""
    return {
        "depths": [2, 2, 6, 2],
        "hidden_sizes": [64, 192, 384, 768],
        "num_attention_heads": [1, 3, 6, 12],
        "patch_sizes": [7, 3, 3, 3],
        "patch_strides": [4, 2, 2, 2],
        "patch_paddings": [2, 1, 1, 1],
        "mlp_ratios": [4, 4, 4, 4],
        "window_size": window_size,
        "use_class_token": False,
    }


def backbone_class(fields: dict) -> type[PreTrainedModel]:
    """Of a variant's fields, as `vit`, `swin` or `cvt` makes them."""
    if "shift_like" in fields:
        return SwinModel
    return CvtModel if "use_class_token" in fields else DeiTModel


def is_full(fields: dict) -> bool:
    return "backbone_config" in fields


def prepare_branches(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Keys without what data parallelism puts into them: of a backbone alone, or of both branches and the loss."""
    tensors = {key.replace("module.", "", 1): value for key, value in tensors.items()}
    tensors = {key: value.view(1, 1, -1) if key.endswith("masked_embed") else value for key, value in tensors.items()}
    tensors = without_tables(tensors, fields)
    return training_tensors(tensors) if is_full(fields) else backbone_tensors(tensors)


def backbone_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The backbone in a file of its own, in one branch, or in a full checkpoint's teacher."""
    for prefix in ("teacher.backbone.", "backbone."):
        found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if found:
            return found
    return tensors


def training_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Both branches and the centres; where one branch's entry is all there is, it serves as both."""
    if not any(key.startswith(BRANCHES) for key in tensors):
        tensors = {f"{branch}.{key}": value.clone() for branch in BRANCHES for key, value in tensors.items()}
    tensors = {key: value for key, value in tensors.items() if key != "teacher.backbone.masked_embed"}
    for branch in BRANCHES:
        first, second = (f"{branch}.head.{layer}." for layer in ("last_layer", "last_layer2"))
        if all(torch.equal(tensors[f"{second}{key}"], tensors[f"{first}{key}"])
               for key in ("weight_g", "weight_v") if f"{second}{key}" in tensors):  # fmt: skip
            tensors = {key: value for key, value in tensors.items() if not key.startswith(second)}
    return tensors


def infer_backbone(tensors: dict[str, torch.Tensor], fields: dict, prefix: str = "") -> dict:
    """Return the fields of a ViT, a Swin or a CvT that its tensors record."""
    backbone = backbone_class(fields)
    if backbone is CvtModel:
        return infer_windowed(tensors, prefix)
    inferred = {"use_mask_token": f"{prefix}masked_embed" in tensors}
    if backbone is SwinModel:
        return inferred | infer_swin(tensors, prefix)
    inferred |= infer_vit(tensors, prefix)
    patch_size, num_tokens = inferred.get("patch_size", fields["patch_size"]), 1 + fields.get("distilled", False)
    return inferred | infer_image_size(tensors, prefix, num_tokens, patch_size)


def infer_head(tensors: dict[str, torch.Tensor]) -> dict:
    """What the student's head tells of its sizes; the magnitudes were trained if any is not 1."""
    magnitude, direction = (tensors.get(f"student.head.last_layer.weight_{part}") for part in "gv")
    if magnitude is None or direction is None:
        return {}
    layers = sorted(
        int(key.split(".")[3]) for key in tensors if key.startswith("student.head.mlp.") and tensors[key].ndim == 2
    )
    return {
        "num_prototypes": len(magnitude),
        "train_magnitude": bool((magnitude != 1).any()),
        "head_bottleneck_size": direction.shape[1],
        "head_hidden_size": len(tensors[f"student.head.mlp.{layers[0]}.weight"]),
        "num_head_layers": len(layers),
        "head_norm": "batch_norm" if "student.head.mlp.1.running_var" in tensors else None,
    }


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return the configuration fields that the tensors record: of a backbone, or of the model that trains one."""
    if not is_full(fields):
        return infer_backbone(tensors, fields)
    backbone = infer_backbone(tensors, fields["backbone_config"], "student.backbone.")
    return infer_head(tensors) | {"backbone_config": backbone}


def move_center(tensors: dict[str, torch.Tensor], theirs: str, ours: str, head: str = "head.last_layer") -> None:
    """Move, in place, a centre of the original's loss to our key, as a vector.

    A file without it gets zeros, with which training starts, for each prototype of the student's layer `head`.
    """
    if (magnitude := tensors.get(f"student.{head}.weight_g")) is not None:
        tensors[f"objective.{ours}.value"] = tensors.pop(theirs, torch.zeros(len(magnitude))).flatten()


def backbone_renamings(
    config: DeiTConfig | SwinConfig | CvtConfig, encoder: str = "", prefix: str = ""
) -> list[WeightRenaming]:
    if isinstance(config, CvtConfig):
        return window_renamings(encoder, prefix)
    token = WeightRenaming(rf"^{prefix}masked_embed$", f"{encoder}embeddings.mask_token")
    if isinstance(config, SwinConfig):
        return [token, *swin_renamings(config, encoder, prefix)]
    return [token, *vit_renamings(encoder, prefix)]


def transforms(config: DeiTConfig | SwinConfig | CvtConfig | DINOConfig) -> list[WeightRenaming]:
    """Return the renamings to our keys: of a backbone, or of the model that trains one."""
    if not isinstance(config, DINOConfig):
        return backbone_renamings(config)
    names = {
        r"\.last_layer2\.": ".patch_layer.",
        r"_layer\.weight_g$": "_layer.magnitude",
        r"_layer\.weight_v$": "_layer.direction",
    }
    renamings = [WeightRenaming(old, new) for old, new in names.items()]
    for branch in BRANCHES:
        renamings += backbone_renamings(config.backbone_config, f"{branch}.backbone.", rf"{branch}\.backbone\.")
    return renamings


def processor(variant: str, config) -> dict:
    """eval_knn.py: short side to 256, bicubic, centre 224."""
    config = getattr(config, "backbone_config", config)
    return resize_and_crop(config.image_size, 224 / 256)
