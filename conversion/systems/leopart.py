"""MkuuWaUjinga/leopart (.ckpt): backbones to `DeiTModel`, whole checkpoints to `LeopartForPreTraining`.

Lightning's checkpoints contain the student (`model.`) and, from training, the teacher (`teacher.`); the released files
contain the student alone. Variants have the size of the ViT and of its patches (src/vit.py). A backbone's variant
takes the student's, which the original evaluates.
"""

import re

import torch
from PIL.Image import Resampling
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.deit.configuration_deit import DeiTConfig
from hf_vits.models.deit.modeling_deit import DeiTModel
from hf_vits.pretraining.leopart.configuration_leopart import LeopartConfig
from hf_vits.pretraining.leopart.modeling_leopart import LeopartForPreTraining

from ..shared.inference import found, size
from ..shared.preprocessing import stretch
from ..shared.self_distillation import infer_backbone, is_full, vit, with_training
from ..shared.timm_vit import timm_key, vit_renamings

VARIANTS = with_training(
    {
        "vit_small_patch16": vit("small", 16),
        "vit_base_patch8": vit("base", 8),
        "vit_base_patch16": vit("base", 16),
        "vit_large_patch16": vit("large", 16),
    }
)

BRANCHES = {"model.": "student.", "teacher.": "teacher."}
HEAD = re.compile(r"(student\.|teacher\.)?(projection_head|prototypes)\.")
SIZE = 448  # of evaluation


def model_class(fields: dict) -> type[DeiTModel] | type[LeopartForPreTraining]:
    return LeopartForPreTraining if is_full(fields) else DeiTModel


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the tensors of the student's backbone, or of both branches and the queue.

    A file without a teacher fills both branches. A head of one layer gets the keys of a sequence of layers.
    """
    if not any(key.startswith("model.") for key in tensors):
        raise ValueError(
            "the checkpoint does not fit: a checkpoint of Leopart has keys that begin with `model.`, this one begins "
            f"with {', '.join(list(tensors)[:3])}"
        )
    named = {}
    for key, value in tensors.items():
        prefix = next((prefix for prefix in BRANCHES if key.startswith(prefix)), "")
        named[BRANCHES.get(prefix, "") + key.removeprefix(prefix)] = value
    if not is_full(fields):
        others = re.compile(r"teacher\.|student\.(projection_head|prototypes)\.")
        return {key.removeprefix("student."): value for key, value in named.items() if not others.match(key)}
    named = {re.sub(r"projection_head\.(weight|bias)$", r"projection_head.0.\1", key): v for key, v in named.items()}
    if not any(key.startswith("teacher.") for key in named):
        named |= {key.replace("student.", "teacher.", 1): value.clone() for key, value in named.items()}
    length = fields.get("queue_length", LeopartConfig.queue_length)
    channels = size(named, "student.prototypes.weight", 1, 2)
    if length and channels is not None:  # the original saves no queue
        crops = fields.get("num_global_crops", LeopartConfig.num_global_crops)
        named["objective.queue.embeddings"] = torch.zeros(crops, length, channels)
    return named


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    if not is_full(fields):
        return infer_backbone(tensors, fields)
    backbone = infer_backbone(tensors, fields["backbone_config"], "student.")
    layers = [key for key in tensors if re.fullmatch(r"student\.projection_head\.\d+\.weight", key)]
    hidden = size(tensors, "student.projection_head.0.weight", 0, 2) if len(layers) > 1 else None
    return found(
        num_prototypes=size(tensors, "student.prototypes.weight", 0, 2),
        head_bottleneck_size=size(tensors, "student.prototypes.weight", 1, 2),
        head_hidden_size=hidden,
        num_head_layers=len(layers) or None,
    ) | {"backbone_config": backbone}


def transforms(config: DeiTConfig | LeopartConfig) -> list[WeightRenaming]:
    if not isinstance(config, LeopartConfig):
        return vit_renamings("")
    renamings = []
    for branch in BRANCHES.values():
        renamings += vit_renamings(f"{branch}backbone.", branch.replace(".", r"\."))
        renamings += [
            WeightRenaming(rf"^{branch}projection_head\.", f"{branch}head.mlp."),
            WeightRenaming(rf"^{branch}prototypes\.", f"{branch}head.prototypes."),
        ]
    return renamings


def processor(variant: str, config: DeiTConfig | LeopartConfig) -> dict:
    """Return the preprocessing of evaluation: resized to 448 x 448, bilinear, normalised as ImageNet."""
    return stretch(SIZE) | {"resample": Resampling.BILINEAR}


def to_original(model: DeiTModel | LeopartForPreTraining) -> dict[str, dict[str, torch.Tensor]]:
    """Return a model's weights as Lightning's checkpoints have them, {"state_dict": {the original's key: tensor}}.

    A backbone alone is the student; the original starts from such a file, or evaluates it.
    """
    if isinstance(model, DeiTModel):
        return {"state_dict": {f"model.{timm_key(key)}": value for key, value in model.state_dict().items()}}
    own = {key: value for key, value in model.state_dict().items() if not key.startswith("objective.")}
    one_layer = model.config.num_head_layers == 1
    return {"state_dict": {original_key(key, one_layer): value for key, value in own.items()}}


def original_key(key: str, one_layer: bool = False) -> str:
    """Return the original's name of a parameter of `LeopartForPreTraining`."""
    branch, part, name = key.split(".", 2)
    prefix = "model." if branch == "student" else "teacher."
    if part == "backbone":
        return prefix + timm_key(name)
    return prefix + name.replace("mlp.0." if one_layer else "mlp.", "projection_head.")


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "to_original", "transforms"]
