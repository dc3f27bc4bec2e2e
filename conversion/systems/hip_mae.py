"""HiP as a masked autoencoder of images, in the sizes of google-deepmind/hierarchical_perceiver.

The original has no such model: a tree of its HiP for images is loaded without an objective, which has no weights.
"""

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.hip.configuration_hip import IMAGE
from hf_vits.pretraining.hip_mae.configuration_hip_mae import HipMAEConfig
from hf_vits.pretraining.hip_mae.modeling_hip_mae import HipMAEForPreTraining

from . import hip
from .hip import prepare, processor

IMAGES = {"modalities": [[IMAGE, 1024, 3]], "datasets": None, "label_modalities": []}
VARIANTS = {name: hip.VARIANTS[name] | IMAGES for name in ("hip_mini", "hip_16", "hip_16x3", "hip_256")}


def model_class(fields: dict) -> type[HipMAEForPreTraining]:
    return HipMAEForPreTraining


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    return hip.infer(tensors, fields)


def transforms(config: HipMAEConfig) -> list:
    return [*hip.transforms(config), WeightRenaming(r"^(?=(?:embeddings|encoder|decoder|reconstruction)\.)", "model.")]


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
