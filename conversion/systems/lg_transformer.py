"""LG-Transformer: variants to train from scratch. No checkpoint is published; files must have our own keys."""

import torch

from hf_vits.models.lg_transformer.configuration_lg_transformer import LgTransformerConfig
from hf_vits.models.lg_transformer.modeling_lg_transformer import LgTransformerForImageClassification

from ..shared.inference import num_labels
from ..shared.preprocessing import resize_and_crop

VARIANTS = {
    "lg_t": {"num_labels": 1000},
    "lg_s": {"depths": [2, 2, 18, 2], "drop_path_rate": 0.3, "num_labels": 1000},
}


def model_class(fields: dict) -> type[LgTransformerForImageClassification]:
    return LgTransformerForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    return {"num_labels": num_labels(tensors, "classifier.bias")}


def transforms(config: LgTransformerConfig) -> list:
    return []


def processor(variant: str, config: LgTransformerConfig) -> dict:
    """Return Swin's preprocessing; the paper does not describe its own."""
    return resize_and_crop(config.image_size, 0.875)
