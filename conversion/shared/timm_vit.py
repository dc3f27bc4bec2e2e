"""Keys of a plain ViT as timm names them, and with it most repositories of self-supervised learning."""

from transformers.core_model_loading import WeightRenaming

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
