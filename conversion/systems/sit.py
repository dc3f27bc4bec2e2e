"""Sara-Ahmed/SiT (.pth), three generations of code in one repository.

Variants are named after the generation, the size and the patch size. A backbone converts to a `DeiTModel`, a training
state (`_full`) to a `SiTForPreTraining`, a fine-tuned model (`_finetuned`) to a `SiTForImageClassification`. From a
full checkpoint of the third generation, the variant of a backbone reads the teacher.
"""

import re

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.deit.configuration_deit import DeiTConfig
from hf_vits.models.deit.modeling_deit import DeiTModel
from hf_vits.models.sit.configuration_sit_classifier import SiTClassifierConfig
from hf_vits.models.sit.modeling_sit_classifier import SiTForImageClassification
from hf_vits.pretraining.sit.configuration_sit import GENERATIONS, SiTConfig
from hf_vits.pretraining.sit.modeling_sit import SiTForPreTraining

from ..shared.inference import size
from ..shared.self_distillation import BRANCHES, FULL, backbone_tensors, infer_backbone, is_full, processor
from ..shared.timm_vit import vit_fields, vit_renamings

# hidden_size, num_hidden_layers, num_attention_heads
SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
FINETUNED = "_finetuned"
# Names of the two prefix tokens, rotation and contrastive, in the first and second generation.
TOKENS = (("rot_token", "contrastive_token"), ("cls_token1", "cls_token2"))
# {our module: what the original's keys begin with, by generation} of the heads beside the backbone.
HEADS = {
    "rotation_head": ("rot_head.mlp.", "rot_head."),
    "contrastive_head": ("contrastive_head.", "contr_head.mlp.", "head.mlp."),
    "reconstruction_head.mlp": ("rec_head.mlp.", "head_recons.mlp."),
    "reconstruction_head.paint": ("convTrans.", "rec_head.convTrans.", "head_recons.convTrans."),
}
# {task: the original's names of its learned loss weight}
WEIGHTS = {
    "rotation": ("rot_w",),
    "contrastive": ("contrastive_w", "contr_w"),
    "reconstruction": ("recons_w", "rec_w"),
}
# Optional layers before the classifiers of the first generation.
REPRESENTATIONS = ("pre_logits_rot", "pre_logits_contrastive")
# {key of a fine-tuned model: its head}; the second generation may lack the classifier on the patches.
CLASSIFIERS = {
    "rot_head.bias": "tokens",
    "head_class_rot.bias": "tokens",
    "head_data.2.bias": "tokens_and_mean",
    "head.2.bias": "token_and_mean",
}


def vit(generation: int, size: str) -> dict:
    interpolation = "bicubic" if generation == 1 else "bicubic_offset"
    return vit_fields(*SIZES[size], distilled=generation < 3, position_interpolation=interpolation)


def backbones(generation: int, *sizes: str) -> dict[str, dict]:
    return {f"gen{generation}_vit_{size}_patch16": vit(generation, size) for size in sizes}


PUBLISHED = {1: backbones(1, "base"), 2: backbones(2, *SIZES), 3: backbones(3, *SIZES)}
VARIANTS = {name: fields for variants in PUBLISHED.values() for name, fields in variants.items()}
VARIANTS |= {
    f"{name}{FULL}": {"backbone_config": {"model_type": DeiTConfig.model_type, **fields}, **GENERATIONS[generation]}
    for generation, variants in PUBLISHED.items()
    for name, fields in variants.items()
}
VARIANTS |= {
    f"{name}{FINETUNED}": fields | {"head": head}
    for generation, head in {1: "tokens", 2: "tokens_and_mean", 3: "token_and_mean"}.items()
    for name, fields in PUBLISHED[generation].items()
}


def is_finetuned(fields: dict) -> bool:
    return "head" in fields and not is_full(fields)


def model_class(fields: dict) -> type[PreTrainedModel]:
    if is_full(fields):
        return SiTForPreTraining
    return SiTForImageClassification if is_finetuned(fields) else DeiTModel


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return a training state under the third generation's keys, `student.backbone.`, or a backbone without prefix."""
    tensors = {key.replace("module.", "", 1): value for key, value in tensors.items()}
    if is_full(fields):
        return training_tensors(tensors, fields)
    if is_finetuned(fields):
        return join_tokens(tensors)
    return join_tokens({key: v for key, v in backbone_tensors(tensors).items() if not stands_beside(key)})


def training_tensors(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the tensors of student and teacher; a file with one branch fills both."""
    if not any(key.startswith(BRANCHES) for key in tensors):
        inside = {
            key if key.startswith("backbone.") or stands_beside(key) else f"backbone.{key}": value
            for key, value in tensors.items()
        }
        branches = BRANCHES if fields.get("momentum_teacher", True) else BRANCHES[:1]
        tensors = {f"{branch}.{key}": value for branch in branches for key, value in inside.items()}
    return join_tokens(tensors, "student.backbone.")


def stands_beside(key: str) -> bool:
    """Return whether a key, without the name of a branch, is of a head or of a task's loss weight."""
    return key.startswith(tuple(start for starts in (*HEADS.values(), *WEIGHTS.values()) for start in starts))


def join_tokens(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Join the two prefix tokens of the first generations to one `cls_token` (1, 2, channels)."""
    for tokens in TOKENS:
        keys = [f"{prefix}{token}" for token in tokens]
        shapes = [tensors[key].shape for key in keys if key in tensors]
        if len(shapes) == len(keys) and len(shapes[0]) == 3 and len(set(shapes)) == 1:
            joined = {f"{prefix}cls_token": torch.cat([tensors[key] for key in keys], dim=1)}
            return joined | {key: value for key, value in tensors.items() if key not in keys}
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    if is_full(fields):
        backbone = fields["backbone_config"]
        inferred = {"backbone_config": infer_backbone(tensors, backbone, "student.backbone.")}
        return inferred | infer_tasks(tensors, fields) | infer_head(tensors)
    inferred = infer_backbone(tensors, fields)
    return inferred | infer_classifier(tensors, fields) if is_finetuned(fields) else inferred


def infer_classifier(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = {}
    for key, head in CLASSIFIERS.items():
        if (num_labels := size(tensors, key, 0, 1)) is not None:
            inferred |= {"num_labels": num_labels, "head": head}
    representation = tensors.get(f"{REPRESENTATIONS[0]}.fc.bias")
    return inferred if representation is None else inferred | {"representation_size": len(representation)}


def infer_tasks(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return the tasks and their weighting, which are options of the second generation only."""
    if fields.get("weighting") is None:
        return {}
    found = {
        task: any(key.startswith(tuple(f"student.{start}" for start in starts)) for key in tensors)
        for task, starts in {
            "rotation": HEADS["rotation_head"],
            "contrastive": HEADS["contrastive_head"],
            "reconstruction": HEADS["reconstruction_head.paint"],
        }.items()
    }
    weighted = any(f"student.{name}" in tensors for names in WEIGHTS.values() for name in names)
    inferred = {} if weighted else {"weighting": None}
    return inferred | ({"tasks": [task for task, there in found.items() if there]} if any(found.values()) else {})


def infer_head(tensors: dict[str, torch.Tensor]) -> dict:
    """Return the sizes of the contrastive head."""
    starts = tuple(f"student.{start}" for start in HEADS["contrastive_head"])
    weights = [value for key, value in tensors.items() if key.startswith(starts) and value.ndim == 2]
    sizes = {"embedding_size": len(weights[-1])} if weights else {}
    return sizes | ({"head_hidden_size": len(weights[0])} if len(weights) > 1 else {})


def transforms(config) -> list[WeightRenaming]:
    if isinstance(config, SiTConfig):
        return training_renamings()
    if isinstance(config, SiTClassifierConfig):
        return [*classifier_renamings(config), *vit_renamings("model.")]
    return vit_renamings("")


def training_renamings() -> list[WeightRenaming]:
    names = {}
    for branch in BRANCHES:
        for head, starts in HEADS.items():
            names |= {f"^{re.escape(f'{branch}.{start}')}": f"{branch}.{head}." for start in starts}
    for task, weights in WEIGHTS.items():
        names |= {rf"^student\.{weight}$": f"objective.weighting.weights.{task}" for weight in weights}
    renamings = [WeightRenaming(old, new) for old, new in names.items()]
    for branch in BRANCHES:
        renamings += vit_renamings(f"{branch}.backbone.", rf"{branch}\.backbone\.")
    return renamings


def classifier_renamings(config: SiTClassifierConfig) -> list[WeightRenaming]:
    if config.head == "token_and_mean":
        return [WeightRenaming(r"^head\.", "classifier.")]
    names = {
        r"^head_class_rot\.": "classifier.0.",
        r"^head_class_contr\.": "classifier.1.",
        r"^head_data\.": "classifier.2.",
    }
    last = "" if config.representation_size is None else "2."
    for index, (head, representation) in enumerate(
        zip(("rot_head", "contrastive_head"), REPRESENTATIONS, strict=True)
    ):
        names |= {rf"^{head}\.": f"classifier.{index}.{last}", rf"^{representation}\.fc\.": f"classifier.{index}.0."}
    return [WeightRenaming(old, new) for old, new in names.items()]


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
