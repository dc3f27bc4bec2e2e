"""The plain ViT as timm, and most repositories of self-supervised learning with it, write it down: fields and keys."""

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.configuration import pair

from .inference import count, found, has_bias, size

# Renamings inside a transformer layer.
BLOCK = {
    r"\.norm1\.": ".attention_norm.",
    r"\.attn\.proj\.": ".attention.projection.",
    r"\.attn\.": ".attention.",
    r"\.norm2\.": ".mlp_norm.",
    r"\.mlp\.fc1\.": ".mlp.up.",
    r"\.mlp\.fc2\.": ".mlp.down.",
}
# The same where our layer keeps norm and MLP together in a feed-forward module.
FEED_FORWARD_BLOCK = BLOCK | {
    r"\.norm2\.": ".feed_forward.norm.",
    r"\.mlp\.fc1\.": ".feed_forward.mlp.up.",
    r"\.mlp\.fc2\.": ".feed_forward.mlp.down.",
}


def vit_fields(
    hidden_size: int, num_hidden_layers: int, num_attention_heads: int, patch_size: int = 16, **more
) -> dict:
    """Return the configuration fields of a ViT whose MLP is four times as wide as its tokens."""
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": 4 * hidden_size,
        "patch_size": patch_size,
        "encoder_stride": patch_size,
        **more,
    }


def vit_renamings(encoder: str, prefix: str = "") -> list[WeightRenaming]:
    """Return the renamings from timm's keys to the keys of our encoder.

    Args:
        encoder: what our keys begin with, such as "model.".
        prefix: regular expression of what timm's keys begin with.
    """
    embeddings = f"{encoder}embeddings."
    names = {
        rf"^{prefix}cls_token$": f"{embeddings}prefix_tokens",
        rf"^{prefix}pos_embed$": f"{embeddings}position_embedding.table",
        rf"^{prefix}patch_embed\.proj\.": f"{embeddings}patch_embedding.projection.",
        rf"^{prefix}blocks\.": f"{encoder}layers.",
        rf"^{prefix}norm\.": f"{encoder}norm.",
        **BLOCK,
    }
    return [WeightRenaming(old, new) for old, new in names.items()]


def timm_key(key: str) -> str:
    """Return timm's key for a key of our encoder, the reverse of `vit_renamings("")`."""
    names = {
        "embeddings.prefix_tokens": "cls_token",
        "embeddings.position_embedding.table": "pos_embed",
        "embeddings.patch_embedding.projection.": "patch_embed.proj.",
        "layers.": "blocks.",
        **{ours: theirs.replace("\\", "") for theirs, ours in BLOCK.items()},
    }
    for ours, theirs in names.items():
        key = key.replace(ours, theirs)
    return key


def infer_vit(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict:
    """Return the configuration fields that tensors, whose keys begin with `prefix`, record; heads leave no trace."""
    channels, height, width = (size(tensors, f"{prefix}patch_embed.proj.weight", axis, 4) for axis in (1, 2, 3))
    return found(
        hidden_size=size(tensors, f"{prefix}cls_token", 2, 3),
        num_hidden_layers=count(tensors, f"{prefix}blocks."),
        intermediate_size=size(tensors, f"{prefix}blocks.0.mlp.fc1.weight", 0, 2),
        num_channels=channels,
        patch_size=height if height == width else [height, width],
        encoder_stride=height if height == width else None,
        qkv_bias=has_bias(tensors, f"{prefix}blocks.0.attn.qkv."),
    )


def infer_image_size(tensors: dict[str, torch.Tensor], prefix: str, num_tokens: int, patch_size) -> dict:
    """Return `image_size` of a square image, from a position table with rows for `num_tokens` prefix tokens."""
    if num_positions := size(tensors, f"{prefix}pos_embed", 1, 3):
        return {"image_size": round(max(num_positions - num_tokens, 0) ** 0.5) * pair(patch_size)[0]}
    return {}
