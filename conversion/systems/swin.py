"""Checkpoints of microsoft/Swin-Transformer, version 1; variants have the names of its files."""

from math import isqrt

import torch
from transformers import SwinConfig as TransformersSwinConfig
from transformers import SwinForImageClassification as TransformersSwinForImageClassification
from transformers import SwinModel as TransformersSwinModel
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming, WeightTransform

from hf_vits.configuration import pair
from hf_vits.models.swin.configuration_swin import SwinConfig
from hf_vits.models.swin.modeling_swin import SwinForImageClassification, SwinModel

from ..shared.inference import count, found, has_bias, num_labels, ratio, size, whole
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import FEED_FORWARD_BLOCK
from ..shared.transformers_layout import (
    check_expressible,
    copy_fields,
    our_class,
    read_theirs,
    their_class,
    write_theirs,
)

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
    qkv, kernel = f"{prefix}layers.0.blocks.0.attn.qkv.", f"{prefix}patch_embed.proj.weight"
    patch_size = size(tensors, kernel, 2, 4)
    positions = size(tensors, f"{prefix}absolute_pos_embed", 1, 3)
    return found(
        depths=whole([count(tensors, stage) for stage in stages]),
        hidden_sizes=whole(widths),
        num_attention_heads=whole([size(tensors, table, 1, 2) for table in tables]),
        window_size=(isqrt(max(sides)) + 1) // 2 if sides else None,
        mlp_ratio=ratio(size(tensors, f"{prefix}layers.0.blocks.0.mlp.fc1.weight", 0, 2), (widths or [None])[0]),
        squeeze_sizes=[SwinConfig.squeeze_sizes[0]] * len(stages) or None,
        num_channels=size(tensors, kernel, 1, 4),
        patch_size=patch_size,
        use_patch_norm=f"{prefix}patch_embed.norm.weight" in tensors if patch_size else None,
        use_absolute_embeddings=positions is not None,
        image_size=isqrt(positions) * patch_size if positions and patch_size else None,
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
        rf"^{prefix}absolute_pos_embed$": f"{encoder}embeddings.position_embedding.table",
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


# transformers' own Swin

CLASSES = {SwinModel: TransformersSwinModel, SwinForImageClassification: TransformersSwinForImageClassification}
# {our field: transformers' field}
FIELDS = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "num_channels",
    "depths": "depths",
    "num_attention_heads": "num_heads",
    "window_size": "window_size",
    "mlp_ratio": "mlp_ratio",
    "hidden_act": "hidden_act",
    "layer_norm_eps": "layer_norm_eps",
    "qkv_bias": "qkv_bias",
    "hidden_dropout_prob": "hidden_dropout_prob",
    "attention_probs_dropout_prob": "attention_probs_dropout_prob",
    "drop_path_rate": "drop_path_rate",
    "use_absolute_embeddings": "use_absolute_embeddings",
    "id2label": "id2label",
    "label2id": "label2id",
}


def from_transformers(model):
    """Return our model for a `SwinModel` or `SwinForImageClassification` of transformers; ValueError for others."""
    model_class, theirs = our_class(model, CLASSES), model.config
    if isinstance(model, TransformersSwinModel) and model.embeddings.mask_token is not None:
        raise ValueError("our Swin masks tokens of the last stage, this one's mask token replaces single patches")
    fields = copy_fields(theirs, FIELDS)
    height, width = pair(fields["patch_size"])
    if height != width:
        raise ValueError(f"our Swin needs a square patch_size, got {fields['patch_size']}")
    fields |= {
        "patch_size": height,
        "hidden_sizes": [theirs.embed_dim * 2**stage for stage in range(len(theirs.depths))],
    }
    fields["squeeze_sizes"] = [SwinConfig.squeeze_sizes[0]] * len(theirs.depths)
    check_windows(fields)
    return read_theirs(model, model_class, fields, layout(len(theirs.depths)))


def to_transformers(model):
    """Return transformers' model for a Swin of ours; ValueError for what transformers' Swin cannot express."""
    target, config = their_class(model, CLASSES), model.config
    check_expressible(
        config, {"feed_forward": "mlp", "shift_like": "input", "use_mask_token": False, "use_patch_norm": True}
    )
    widths = [config.hidden_sizes[0] * 2**stage for stage in range(len(config.depths))]
    check_expressible(config, {"hidden_sizes": type(config.hidden_sizes)(widths)})
    fields = copy_fields(config, {theirs: ours for ours, theirs in FIELDS.items()})
    check_windows(copy_fields(config, list(FIELDS)))
    return write_theirs(
        model, target, TransformersSwinConfig(embed_dim=widths[0], **fields), layout(len(config.depths))
    )


def check_windows(fields: dict) -> None:
    """Raise ValueError where ours and transformers' Swin differ: norms' epsilons, maps smaller than a window.

    transformers' patch embedding and patch merging have an epsilon of 1e-5, whatever its configuration says; its
    tables are those of whole windows.
    """
    if fields["layer_norm_eps"] != 1e-5:
        raise ValueError(
            "transformers' Swin has layer_norm_eps=1e-05 in patch embedding and merging, ours one value everywhere, "
            f"got layer_norm_eps={fields['layer_norm_eps']}"
        )
    stride = fields["patch_size"] * 2 ** (len(fields["depths"]) - 1)
    last = min(-(-side // stride) for side in pair(fields["image_size"]))
    if last < fields["window_size"]:
        raise ValueError(
            f"transformers' Swin has windows of window_size={fields['window_size']} in all stages, but the last "
            f"feature map of image_size={fields['image_size']} has a side of {last} tokens, where ours are smaller"
        )


def layout(num_stages: int) -> list[WeightTransform]:
    """Return the transforms from keys of transformers' Swin to ours; they can be reversed."""
    renamings = {
        "^swin.embeddings.patch_embeddings.projection.": "^model.embeddings.projection.",
        "^swin.embeddings.norm.": "^model.embeddings.norm.",
        "^swin.embeddings.position_embeddings": "^model.embeddings.position_embedding.table",
        "^swin.layernorm.": "^model.norm.",
    }
    for stage in range(num_stages):
        if stage:  # transformers' downsampling ends a stage, ours begins the next
            renamings[f"^swin.encoder.layers.{stage - 1}.downsample."] = f"^model.stages.{stage}.merging."
        renamings[f"^swin.encoder.layers.{stage}.blocks."] = f"^model.stages.{stage}.layers."
    renamings |= {
        ".layernorm_before.": ".attention_norm.",
        ".layernorm_after.": ".feed_forward.norm.",
        ".mlp.fc1.": ".feed_forward.mlp.up.",
        ".mlp.fc2.": ".feed_forward.mlp.down.",
        ".attention.o_proj.": ".attention.projection.",
        ".attention.relative_position_bias.relative_position_bias_table": ".attention.position_bias.table",
    }
    return [
        *(WeightRenaming(theirs, ours) for theirs, ours in renamings.items()),
        WeightConverter([f".attention.{part}_proj" for part in "qkv"], ".attention.qkv", [Concatenate(0)]),
    ]
