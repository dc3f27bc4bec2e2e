"""Checkpoints of timm's two implementations of TNT, the present and the legacy one; variants have its names."""

from math import isqrt

import torch
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming

from hf_vits.models.tnt.configuration_tnt import TntConfig
from hf_vits.models.tnt.modeling_tnt import TntForImageClassification

from ..shared.inference import count, found, has_bias, num_labels, size
from ..shared.preprocessing import resize_and_crop


def fields(hidden_size: int, num_attention_heads: int, pixel_hidden_size: int, pixel_num_attention_heads: int) -> dict:
    return {
        "hidden_size": hidden_size,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": 4 * hidden_size,
        "pixel_hidden_size": pixel_hidden_size,
        "pixel_num_attention_heads": pixel_num_attention_heads,
        "pixel_intermediate_size": 4 * pixel_hidden_size,
        "num_labels": 1000,
    }


VARIANTS = {
    "tnt_t_patch16_224": fields(192, 3, 12, 3),
    "tnt_s_patch16_224": fields(384, 6, 24, 4),
    "tnt_b_patch16_224": fields(640, 10, 40, 4),
}


def model_class(fields: dict) -> type[TntForImageClassification]:
    return TntForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Reshape positions inside a patch from (1, channels, height, width) to (1, height * width, channels)."""
    if "pixel_pos" not in tensors:
        return tensors
    return tensors | {"pixel_pos": tensors["pixel_pos"].flatten(2).transpose(1, 2)}


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return the fields that tensors record; the stride inside a patch is in none and comes from `fields`."""
    qk = "blocks.0.attn_in.qk."
    inferred = found(
        hidden_size=size(tensors, "cls_token", 2, 3),
        num_hidden_layers=count(tensors, "blocks."),
        intermediate_size=size(tensors, "blocks.0.mlp.fc1.weight", 0, 2),
        pixel_hidden_size=size(tensors, "pixel_embed.proj.weight", 0, 4),
        pixel_intermediate_size=size(tensors, "blocks.0.mlp_in.fc1.weight", 0, 2),
        num_channels=size(tensors, "pixel_embed.proj.weight", 1, 4),
        qkv_bias=has_bias(tensors, qk),
        num_labels=num_labels(tensors),
    )
    if "blocks.0.norm1_proj.weight" in tensors:
        inferred["isolate_patches"] = "blocks.0.norm2_proj.weight" in tensors
    if num_pixels := size(tensors, "pixel_pos", 1, 3):
        inferred["patch_size"] = isqrt(num_pixels) * fields.get("pixel_stride", TntConfig.pixel_stride)
    if num_positions := size(tensors, "patch_pos", 1, 3):
        patch_size = fields.get("patch_size", TntConfig.patch_size)
        inferred["image_size"] = isqrt(num_positions - 1) * inferred.get("patch_size", patch_size)
    return inferred


def transforms(config: TntConfig) -> list:
    renamings = {
        "^pixel_pos$": "model.embeddings.pixel_embeddings.positions",
        r"^pixel_embed\.proj\.": "model.embeddings.pixel_embeddings.projection.",
        r"^norm1_proj\.": "model.embeddings.pixel_norm.",
        r"^proj\.": "model.embeddings.projection.",
        r"^norm2_proj\.": "model.embeddings.patch_norm.",
        "^cls_token$": "model.embeddings.class_token",
        "^patch_pos$": "model.embeddings.position_embedding.table",
        r"^norm\.": "model.norm.",
        r"^head\.": "classifier.",
        r"^blocks\.": "model.layers.",
        r"\.norm_in\.": ".pixel_attention_norm.",
        r"\.attn_in\.": ".pixel_attention.",
        r"\.norm_mlp_in\.": ".pixel_feed_forward.norm.",
        r"\.mlp_in\.": ".pixel_feed_forward.mlp.",
        r"\.norm1_proj\.": ".pixel_norm.",
        r"(layers\.\d+)\.proj\.": r"\1.pixel_projection.",
        r"\.norm2_proj\.": ".pixel_projection_norm.",
        r"\.norm_out\.": ".attention_norm.",
        r"\.attn_out\.": ".attention.",
        r"\.norm_mlp\.": ".feed_forward.norm.",
        r"(layers\.\d+)\.mlp\.": r"\1.feed_forward.mlp.",
        r"\.mlp\.fc1\.": ".mlp.up.",
        r"\.mlp\.fc2\.": ".mlp.down.",
        r"attention\.proj\.": "attention.projection.",
    }
    return [
        *(WeightRenaming(old, new) for old, new in renamings.items()),
        WeightConverter([r"attention\.qk\.", r"attention\.v\."], "attention.qkv.", [Concatenate(0)]),
    ]


def processor(variant: str, config: TntConfig) -> dict:
    """Return timm's preprocessing: short side to size / 0.9, bicubic; mean and standard deviation 0.5."""
    return resize_and_crop(config.image_size, 0.9, mean=[0.5] * 3, std=[0.5] * 3)
