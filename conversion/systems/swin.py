"""Checkpoints of microsoft/Swin-Transformer, version 1; variants have the names of its files."""

from math import isqrt

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.swin.configuration_swin import SwinConfig
from hf_vits.models.swin.modeling_swin import SwinForImageClassification

from ..shared.inference import count, found, has_bias, num_labels, ratio, size, whole
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import FEED_FORWARD_BLOCK

BASE = {"depths": [2, 2, 18, 2], "hidden_sizes": [128, 256, 512, 1024], "num_attention_heads": [4, 8, 16, 32]}
LARGE = {"depths": [2, 2, 18, 2], "hidden_sizes": [192, 384, 768, 1536], "num_attention_heads": [6, 12, 24, 48]}
SIZE_384 = {"image_size": 384, "window_size": 12}

VARIANTS = {
    "swin_tiny_patch4_window7_224": {"drop_path_rate": 0.2, "num_labels": 1000},
    "swin_small_patch4_window7_224": {"depths": [2, 2, 18, 2], "drop_path_rate": 0.3, "num_labels": 1000},
    "swin_base_patch4_window7_224": {**BASE, "drop_path_rate": 0.5, "num_labels": 1000},
    "swin_base_patch4_window12_384": {**BASE, **SIZE_384, "drop_path_rate": 0.5, "num_labels": 1000},
    "swin_large_patch4_window7_224_22kto1k": {**LARGE, "drop_path_rate": 0.2, "num_labels": 1000},
    "swin_large_patch4_window12_384_22kto1k": {**LARGE, **SIZE_384, "drop_path_rate": 0.2, "num_labels": 1000},
}


def model_class(fields: dict) -> type[SwinForImageClassification]:
    return SwinForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Drop the index and mask tables, which follow from the sizes."""
    tables = (".relative_position_index", ".attn_mask")
    return {key: value for key, value in tensors.items() if not key.endswith(tables)}


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    return infer_swin(tensors) | {"num_labels": num_labels(tensors)}


def infer_swin(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict:
    """Return the configuration fields that an encoder's tensors, whose keys begin with `prefix`, record.

    A stage whose feature map is smaller than a window has a table of that smaller size, so the largest table counts.
    """
    stages = [f"{prefix}layers.{stage}.blocks." for stage in range(count(tensors, f"{prefix}layers.") or 0)]
    widths = [size(tensors, f"{stage}0.attn.proj.weight", 0, 2) for stage in stages]
    tables = [f"{stage}0.attn.relative_position_bias_table" for stage in stages]
    sides = whole([size(tensors, table, 0, 2) for table in tables])
    qkv = f"{prefix}layers.0.blocks.0.attn.qkv."
    return found(
        depths=whole([count(tensors, stage) for stage in stages]),
        hidden_sizes=whole(widths),
        num_attention_heads=whole([size(tensors, table, 1, 2) for table in tables]),
        window_size=(isqrt(max(sides)) + 1) // 2 if sides else None,
        mlp_ratio=ratio(size(tensors, f"{prefix}layers.0.blocks.0.mlp.fc1.weight", 0, 2), (widths or [None])[0]),
        squeeze_sizes=[SwinConfig.squeeze_sizes[0]] * len(stages) or None,
        num_channels=size(tensors, f"{prefix}patch_embed.proj.weight", 1, 4),
        patch_size=size(tensors, f"{prefix}patch_embed.proj.weight", 2, 4),
        qkv_bias=has_bias(tensors, qkv),
    )


def transforms(config: SwinConfig) -> list:
    return [WeightRenaming(r"^head\.", "classifier."), *swin_renamings(config, "model.")]


def swin_renamings(config: SwinConfig, encoder: str, prefix: str = "") -> list[WeightRenaming]:
    """Return the renamings from the original's keys to the keys of our encoder.

    Args:
        encoder: what our keys begin with, such as "model.".
        prefix: regular expression of what the original's keys begin with.
    """
    renamings = {
        rf"^{prefix}patch_embed\.proj\.": f"{encoder}embeddings.projection.",
        rf"^{prefix}patch_embed\.norm\.": f"{encoder}embeddings.norm.",
        rf"^{prefix}norm\.": f"{encoder}norm.",
    }
    # The original's downsampling ends a stage, ours begins the next.
    for stage in range(1, len(config.depths)):
        renamings[rf"^{prefix}layers\.{stage - 1}\.downsample\."] = f"{encoder}stages.{stage}.merging."
    renamings |= {
        rf"^{prefix}layers\.(\d+)\.blocks\.": rf"{encoder}stages.\1.layers.",
        **FEED_FORWARD_BLOCK,
        r"\.relative_position_bias_table$": ".position_bias.table",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def processor(variant: str, config: SwinConfig) -> dict:
    """Return the preprocessing of data/build.py, `build_transform`: short side to 256 / 224 of the size, bicubic."""
    return resize_and_crop(config.image_size, 0.875)
