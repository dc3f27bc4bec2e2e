"""Keys of a plain ViT as timm names them, and with it most repositories of self-supervised learning."""

import torch
from transformers.core_model_loading import WeightRenaming

from .inference import count, found, size

BLOCK = {
    r"\.norm1\.": ".attention_norm.",
    r"\.attn\.proj\.": ".attention.projection.",
    r"\.attn\.": ".attention.",
    r"\.norm2\.": ".mlp_norm.",
    r"\.mlp\.fc1\.": ".mlp.up.",
    r"\.mlp\.fc2\.": ".mlp.down.",
}


def vit_renamings(encoder: str, prefix: str = "") -> list[WeightRenaming]:
    """Renamings from timm's keys, which begin with `prefix`, to those of an encoder of ours.

    Args:
        encoder: what our keys begin with, such as "model.".
        prefix: a regular expression.
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


def infer_vit(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict:
    """Return the configuration fields of an encoder that its tensors, whose keys begin with `prefix`, record.

    Heads leave no trace in the tensors.
    """
    channels, height, width = (size(tensors, f"{prefix}patch_embed.proj.weight", axis, 4) for axis in (1, 2, 3))
    qkv = f"{prefix}blocks.0.attn.qkv."
    return found(
        hidden_size=size(tensors, f"{prefix}cls_token", 2, 3),
        num_hidden_layers=count(tensors, f"{prefix}blocks."),
        intermediate_size=size(tensors, f"{prefix}blocks.0.mlp.fc1.weight", 0, 2),
        num_channels=channels,
        patch_size=height if height == width else [height, width],
        encoder_stride=height if height == width else None,
        qkv_bias=f"{qkv}bias" in tensors if f"{qkv}weight" in tensors else None,
    )
