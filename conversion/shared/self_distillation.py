"""Checkpoints of self-distillation: facebookresearch/dino, bytedance/ibot, gkakogeorgiou/attmask, microsoft/esvit.

The variant of a backbone converts to a `DeiTModel` (the ViT of these repositories; file names of DINO call it DeiT-S),
a `SwinModel` or a `CvtModel`; from a full training checkpoint it reads the teacher. After fine-tuning, a file with a
linear classifier converts to a `DeiTForImageClassification` and so on. A variant whose name ends in `_full` converts a
full training checkpoint to the model that trains the backbone.
"""

import re
from math import isqrt

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightRenaming

from hf_vits.configuration import pair
from hf_vits.models.cvt.configuration_cvt import CvtConfig
from hf_vits.models.cvt.modeling_cvt import CvtForImageClassification, CvtModel
from hf_vits.models.deit.configuration_deit import DeiTConfig
from hf_vits.models.deit.modeling_deit import DeiTForImageClassification, DeiTModel
from hf_vits.models.swin.configuration_swin import SwinConfig
from hf_vits.models.swin.modeling_swin import SwinForImageClassification, SwinModel
from hf_vits.pretraining.dino.configuration_dino import DINOConfig

from ..systems.cvt import infer_windowed, window_renamings
from ..systems.swin import infer_swin, swin_renamings
from ..systems.swin import prepare as without_tables
from .inference import found, size
from .preprocessing import resize_and_crop
from .timm_vit import infer_image_size, infer_vit, vit_fields, vit_renamings

# hidden_size, num_hidden_layers, num_attention_heads
SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
BRANCHES = ("student", "teacher")
FULL = "_full"
CLASSIFIERS = {
    DeiTModel: DeiTForImageClassification,
    SwinModel: SwinForImageClassification,
    CvtModel: CvtForImageClassification,
}
ENCODER = "model."  # what our classifiers' keys of the encoder begin with
TABLE = "relative_position_bias_table"
LAYER_SCALE = 0.1  # initial gamma of layer scale in iBOT's fine-tuning


def vit(size: str, patch_size: int) -> dict:
    """Return the fields of DINO's ViT."""
    return vit_fields(*SIZES[size], patch_size, position_interpolation="bicubic_offset")


def swin(window_size: int, **more) -> dict:
    """Return the fields of the Swin of iBOT and EsViT: Swin-T, changed by the fields in `more`."""
    return {"window_size": window_size, "layer_norm_eps": 1e-6, "shift_like": "image_size"} | more


def with_training(backbones: dict[str, dict], **more) -> dict[str, dict]:
    """Return the variants of backbones and, with `_full` appended to the name, of the models that train them.

    Args:
        more: further fields of the backbones in training.
    """
    types = {name: backbone_class(fields).config_class.model_type for name, fields in backbones.items()}
    return backbones | {
        f"{name}{FULL}": {"backbone_config": {"model_type": types[name], **fields, **more}}
        for name, fields in backbones.items()
    }


def cvt(window_size: int) -> dict:
    """Return the fields of EsViT's CvT-T."""
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
    """Return the model class for the fields of a backbone, as `vit`, `swin` or `cvt` returns them."""
    if "shift_like" in fields:
        return SwinModel
    return CvtModel if "use_class_token" in fields else DeiTModel


def encoder_class(fields: dict) -> type[PreTrainedModel]:
    """Return the class of a backbone or, if there are classes, of a classifier."""
    return CLASSIFIERS[backbone_class(fields)] if "num_labels" in fields else backbone_class(fields)


def is_full(fields: dict) -> bool:
    """Return whether the fields are of a model that trains a backbone, not of a backbone."""
    return "backbone_config" in fields


def prepare_branches(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the tensors of a backbone, or of both branches and the loss, without the prefixes of data parallelism."""
    tensors = {key.replace("module.", "", 1): value for key, value in tensors.items()}
    tensors = {key: value.view(1, 1, -1) if key.endswith("masked_embed") else value for key, value in tensors.items()}
    tensors = without_tables(tensors, fields)
    return training_tensors(tensors) if is_full(fields) else encoder_tensors(tensors)


def encoder_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a backbone; if there is a linear classifier, with `model.` before the encoder's keys."""
    tensors = backbone_tensors(tensors)
    if "head.weight" not in tensors:
        return tensors
    return {key if key.startswith("head.") else f"{ENCODER}{key}": value for key, value in tensors.items()}


def backbone_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the backbone of a full checkpoint's teacher or of one branch; other files contain only a backbone."""
    for prefix in ("teacher.backbone.", "backbone."):
        backbone = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if backbone:
            return backbone
    return tensors


def training_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of student, teacher and centres; a file with one branch fills both.

    A `last_layer2` that equals `last_layer` is the shared head and is left out.
    """
    if not any(key.startswith(BRANCHES) for key in tensors):
        tensors = {f"{branch}.{key}": value.clone() for branch in BRANCHES for key, value in tensors.items()}
    tensors = {key: value for key, value in tensors.items() if key != "teacher.backbone.masked_embed"}
    for branch in BRANCHES:
        first, second = (f"{branch}.head.{layer}." for layer in ("last_layer", "last_layer2"))
        pairs = [(tensors.get(f"{first}{key}"), tensors.get(f"{second}{key}")) for key in ("weight_g", "weight_v")]
        if all(own is None or (shared is not None and torch.equal(shared, own)) for shared, own in pairs):
            tensors = {key: value for key, value in tensors.items() if not key.startswith(second)}
    return tensors


def infer_backbone(tensors: dict[str, torch.Tensor], fields: dict, prefix: str = "") -> dict:
    """Return the configuration fields of a ViT, Swin or CvT that tensors, whose keys begin with `prefix`, record."""
    backbone = backbone_class(fields)
    if backbone is CvtModel:
        return infer_windowed(tensors, prefix)
    inferred = {"use_mask_token": f"{prefix}masked_embed" in tensors}
    if backbone is SwinModel:
        return inferred | infer_swin(tensors, prefix)
    inferred |= infer_vit(tensors, prefix)
    if f"{prefix}blocks.0.gamma_1" in tensors:
        inferred["layer_scale_init_value"] = LAYER_SCALE
    if f"{prefix}fc_norm.weight" in tensors:
        inferred |= {"pooling": "mean", "norm_after_pooling": True}
    patch_size, num_tokens = inferred.get("patch_size", fields["patch_size"]), 1 + fields.get("distilled", False)
    inferred |= infer_relative_positions(tensors, prefix, patch_size)
    return inferred | infer_image_size(tensors, prefix, num_tokens, patch_size)


def infer_relative_positions(tensors: dict[str, torch.Tensor], prefix: str, patch_size) -> dict:
    """Return the fields of BEiT's relative positions, beside or in place of a table of positions; {} without them."""
    places = {
        "use_relative_position_bias": f"{prefix}blocks.0.attn.{TABLE}",
        "use_shared_relative_position_bias": f"{prefix}rel_pos_bias.{TABLE}",
    }
    used = {field: key in tensors for field, key in places.items()}
    tables = [tensors[key] for key in places.values() if key in tensors]
    if not tables or any(table.ndim != 2 for table in tables):
        return {}
    rows, heads = tables[0].shape
    side = (isqrt(max(rows - 3, 0)) + 1) // 2  # three rows are for the class token
    inferred = used | {"image_size": side * pair(patch_size)[0], "num_attention_heads": heads}
    return inferred if f"{prefix}pos_embed" in tensors else inferred | {"position_embedding_type": "none"}


def infer_head(tensors: dict[str, torch.Tensor]) -> dict:
    """Return sizes and options of the student's head; its magnitudes were trained if any is not 1."""
    last, layer = "student.head.last_layer.weight_", re.compile(r"student\.head\.mlp\.(\d+)\.weight")
    if (magnitude := tensors.get(f"{last}g")) is None:
        return {}
    layers = sorted(
        (int(match[1]), len(tensor))
        for key, tensor in tensors.items()
        if (match := layer.fullmatch(key)) and tensor.ndim == 2
    )
    return found(
        num_prototypes=size(tensors, f"{last}g"),
        train_magnitude=bool((magnitude != 1).any()),
        head_bottleneck_size=size(tensors, f"{last}v", 1, 2),
        head_hidden_size=layers[0][1] if layers else None,
        num_head_layers=len(layers) or None,
    ) | {"head_norm": "batch_norm" if "student.head.mlp.1.running_var" in tensors else None}


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return the configuration fields, of a backbone or of the model that trains one, that the tensors record."""
    if not is_full(fields):
        if "head.weight" not in tensors:
            return infer_backbone(tensors, fields)
        return infer_backbone(tensors, fields, ENCODER) | found(num_labels=size(tensors, "head.weight", 0, 2))
    backbone = infer_backbone(tensors, fields["backbone_config"], "student.backbone.")
    return infer_head(tensors) | {"backbone_config": backbone}


def move_center(tensors: dict[str, torch.Tensor], theirs: str, ours: str, head: str = "head.last_layer") -> None:
    """Rename, in place, a centre of the original's loss from key `theirs` to our module `ours`, as a vector.

    Args:
        head: the student's last layer, whose number of prototypes is the centre's length. A file without a centre
            gets zeros, the value at the start of training.
    """
    if (num_prototypes := size(tensors, f"student.{head}.weight_g")) is not None:
        tensors[f"objective.{ours}.value"] = tensors.pop(theirs, torch.zeros(num_prototypes)).flatten()


def backbone_renamings(
    config: DeiTConfig | SwinConfig | CvtConfig, encoder: str = "", prefix: str = ""
) -> list[WeightRenaming]:
    """Return the renamings from the original's keys, below `prefix`, to the keys of our model, below `encoder`."""
    if isinstance(config, CvtConfig):
        return window_renamings(encoder, prefix)
    token = WeightRenaming(rf"^{prefix}masked_embed$", f"{encoder}embeddings.mask_token")
    if isinstance(config, SwinConfig):
        return [token, *swin_renamings(config, encoder, prefix)]
    names = {
        rf"^{prefix}fc_norm\.": f"{encoder}pooler.norm.",
        rf"^{prefix}rel_pos_bias\.{TABLE}$": f"{encoder}embeddings.position_bias.table",
        rf"\.{TABLE}$": ".position_bias.table",
        r"\.gamma_1$": ".attention_scale.gamma",
        r"\.gamma_2$": ".mlp_scale.gamma",
    }
    return [token, *(WeightRenaming(old, new) for old, new in names.items()), *vit_renamings(encoder, prefix)]


def transforms(config: DeiTConfig | SwinConfig | CvtConfig | DINOConfig) -> list[WeightRenaming]:
    """Return the renamings to our keys, of a backbone or of the model that trains one."""
    if not isinstance(config, DINOConfig):
        classifier = [WeightRenaming(r"^head\.", "classifier."), *backbone_renamings(config, ENCODER, r"model\.")]
        return [*classifier, *backbone_renamings(config)]
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
    """Return the preprocessing of eval_knn.py: short side to 256 / 224 of the size, bicubic; centre crop."""
    config = getattr(config, "backbone_config", config)
    return resize_and_crop(config.image_size, 224 / 256)
