"""Checkpoints of yitu-opensource/T2T-ViT; variants have the names of its factory functions (models/t2t_vit.py)."""

from math import isqrt

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.t2t.configuration_t2t import T2TConfig
from hf_vits.models.t2t.modeling_t2t import T2TForImageClassification

from ..shared.inference import count, found, has_bias, num_labels, size
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import BLOCK


def fields(hidden_size: int, num_hidden_layers: int, num_attention_heads: int, mlp_ratio: int, **more) -> dict:
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": mlp_ratio * hidden_size,
        "num_labels": 1000,
        **more,
    }


FIRST_LAYER = "tokens_to_token.attention1."
SOFT_SPLIT, STRIDE = 7, 16  # side of the first windows and of a token, in pixels
# Renamings inside the layers between the soft splits, and of the stem that contains them. In the original, the
# performer's attention and MLP are not modules of their own.
TOKEN_LAYERS = {
    r"(embeddings\.layers\.\d)\.kqv\.": r"\1.attention.key_query_value.",
    r"(embeddings\.layers\.\d)\.w$": r"\1.attention.features.weight",
    r"(embeddings\.layers\.\d)\.proj\.": r"\1.attention.projection.",
    r"(embeddings\.layers\.\d)\.norm2\.": r"\1.feed_forward.norm.",
    r"(embeddings\.layers\.\d)\.mlp\.": r"\1.feed_forward.mlp.",
    r"\.mlp\.0\.": ".mlp.up.",
    r"\.mlp\.2\.": ".mlp.down.",
}
TRANSFORMER = {"token_layer": "transformer"}
VARIANTS = {
    "t2t_vit_7": fields(256, 7, 4, 2),
    "t2t_vit_10": fields(256, 10, 4, 2),
    "t2t_vit_12": fields(256, 12, 4, 2),
    "t2t_vit_14": fields(384, 14, 6, 3),
    "t2t_vit_19": fields(448, 19, 7, 3),
    "t2t_vit_24": fields(512, 24, 8, 3),
    "t2t_vit_t_14": fields(384, 14, 6, 3, **TRANSFORMER),
    "t2t_vit_t_19": fields(448, 19, 7, 3, **TRANSFORMER),
    "t2t_vit_t_24": fields(512, 24, 8, 3, **TRANSFORMER),
    "t2t_vit_14_resnext": fields(384, 14, 32, 3),
    "t2t_vit_14_wide": fields(768, 4, 12, 3),
}


def model_class(fields: dict) -> type[T2TForImageClassification]:
    return T2TForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = infer_token_layers(tensors) | found(
        hidden_size=size(tensors, "cls_token", 2, 3),
        num_hidden_layers=count(tensors, "blocks."),
        intermediate_size=size(tensors, "blocks.0.mlp.fc1.weight", 0, 2),
        qkv_bias=has_bias(tensors, "blocks.0.attn.qkv."),
        num_labels=num_labels(tensors),
    )
    if num_features := size(tensors, f"{FIRST_LAYER}norm1.weight", 0, 1):
        inferred["num_channels"] = max(1, num_features // SOFT_SPLIT**2)
    if num_positions := size(tensors, "pos_embed", 1, 3):
        inferred["image_size"] = STRIDE * isqrt(num_positions - 1)
    return inferred


def infer_token_layers(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict:
    """Return kind and channels of the layers between the soft splits of a network whose keys begin with `prefix`."""
    first = f"{prefix}{FIRST_LAYER}"
    kind = (
        "performer"
        if f"{first}kqv.weight" in tensors
        else "transformer"
        if f"{first}attn.qkv.weight" in tensors
        else None
    )
    projection = f"{first}proj.weight" if kind == "performer" else f"{first}attn.proj.weight"
    return found(token_layer=kind, token_size=size(tensors, projection, 0, 2))


def transforms(config: T2TConfig) -> list:
    renamings = {
        "^cls_token$": "model.embeddings.class_token",
        "^pos_embed$": "model.embeddings.position_embedding.table",
        r"^tokens_to_token\.project\.": "model.embeddings.projection.",
        r"^tokens_to_token\.attention1\.": "model.embeddings.layers.0.",
        r"^tokens_to_token\.attention2\.": "model.embeddings.layers.1.",
        r"^blocks\.": "model.layers.",
        r"^norm\.": "model.norm.",
        r"^head\.": "classifier.",
        **TOKEN_LAYERS,
        **BLOCK,
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def processor(variant: str, config: T2TConfig) -> dict:
    """Return the preprocessing of models/t2t_vit.py: short side to size / 0.9, bicubic; centre crop."""
    return resize_and_crop(config.image_size, 0.9)
