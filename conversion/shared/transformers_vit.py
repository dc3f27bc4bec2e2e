"""Between our ViT and DeiT and transformers' own, which share their configuration fields and keys."""

from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming, WeightTransform

from hf_vits.layers.patch import pair

SHARED_FIELDS = (
    "image_size",
    "patch_size",
    "num_channels",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "qkv_bias",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "encoder_stride",
    "id2label",
    "label2id",
)
# The values that our fields must have where transformers has no such choice.
PLAIN = {
    "use_class_token": True,
    "pooling": "token",
    "position_embedding_type": "learned",
    "position_embedding_prefix": True,
    "layer_scale_init_value": None,
    "stem_depths": None,
    "norm_after_pooling": False,
}


def our_fields(theirs) -> dict:
    """Our configuration fields from theirs; transformers resizes positions bicubically."""
    return {name: getattr(theirs, name) for name in SHARED_FIELDS} | {"position_interpolation": "bicubic"}


def their_fields(config) -> dict:
    fields = {name: getattr(config, name) for name in SHARED_FIELDS}
    for name in ("image_size", "patch_size"):  # theirs divide by the size, so that it must be one number
        height, width = pair(fields[name])
        if height != width:
            raise ValueError(f"transformers' ViT needs a square {name}, got {name}={fields[name]}")
        fields[name] = height
    return fields


def vit_layout(prefix: str) -> list[WeightTransform]:
    """Keys of transformers' ViT ("vit") or DeiT ("deit") to ours; every step can be reversed."""
    theirs = [f"{prefix}.embeddings.cls_token"]
    if prefix == "deit":
        theirs.append(f"{prefix}.embeddings.distillation_token")
    return [
        WeightRenaming(f"{prefix}.embeddings.patch_embeddings.", "model.embeddings.patch_embedding."),
        WeightRenaming(f"{prefix}.embeddings.position_embeddings", "model.embeddings.position_embedding.table"),
        WeightRenaming(f"{prefix}.embeddings.mask_token", "model.embeddings.mask_token"),
        WeightRenaming(f"{prefix}.layernorm.", "model.norm."),
        WeightRenaming(f"{prefix}.pooler.dense.", "model.pooler.representation."),
        WeightRenaming(f"{prefix}.layers.", "model.layers."),
        WeightRenaming(".layernorm_before.", ".attention_norm."),
        WeightRenaming(".layernorm_after.", ".mlp_norm."),
        WeightRenaming(".mlp.fc1.", ".mlp.up."),
        WeightRenaming(".mlp.fc2.", ".mlp.down."),
        WeightRenaming(".attention.o_proj.", ".attention.projection."),
        WeightConverter(
            [f".attention.{part}_proj" for part in ("q", "k", "v")], ".attention.qkv", operations=[Concatenate(0)]
        ),
        WeightConverter(theirs, "model.embeddings.prefix_tokens", operations=[Concatenate(1)]),
    ]
