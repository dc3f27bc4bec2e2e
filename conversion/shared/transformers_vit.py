"""Converting between our ViT, DeiT and ViViT and transformers' own, which share configuration fields and keys."""

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming, WeightTransform

from hf_vits.configuration import pair

from .transformers_layout import check_expressible, copy_fields, their_class, write_theirs

# Fields that configurations of transformers and ours have under the same name.
ENCODER_FIELDS = (
    "image_size",
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
    "id2label",
    "label2id",
)
VIT_FIELDS = (*ENCODER_FIELDS, "patch_size", "encoder_stride")
# The values that our fields must have, since transformers' ViT has no such option.
PLAIN = {
    "use_class_token": True,
    "pooling": "token",
    "position_embedding_type": "learned",
    "position_embedding_prefix": True,
    "layer_scale_init_value": None,
    "stem_depths": None,
    "norm_after_pooling": False,
}


def our_fields(theirs: PreTrainedConfig) -> dict:
    """Return our fields for a ViT of transformers, which resizes position embeddings bicubically."""
    stride = getattr(theirs, "encoder_stride", pair(theirs.patch_size)[0])  # ViTMSN has no decoder
    fields = copy_fields(theirs, (*ENCODER_FIELDS, "patch_size"))
    return fields | {"encoder_stride": stride, "position_interpolation": "bicubic"}


def their_fields(config: PreTrainedConfig) -> dict:
    """Return transformers' fields for a ViT of ours; ValueError if its images or patches are not square."""
    fields = copy_fields(config, VIT_FIELDS)
    for name in ("image_size", "patch_size"):  # transformers divides by them, so each must be one number
        height, width = pair(fields[name])
        if height != width:
            raise ValueError(f"transformers' ViT needs a square {name}, got {name}={fields[name]}")
        fields[name] = height
    return fields


def representation_size(theirs: PreTrainedModel) -> int | None:
    """Return the width of the pooler of a model of transformers, None if it has no pooler.

    Raises ValueError if the pooler's activation is not tanh, the only one that our models have.
    """
    if getattr(theirs, "pooler", None) is None:
        return None
    if theirs.config.pooler_act != "tanh":
        raise ValueError(f"our representation layer ends in tanh, this pooler in {theirs.config.pooler_act!r}")
    return theirs.config.pooler_output_size


def write_encoder(
    ours: PreTrainedModel,
    classes: dict,
    config_class: type[PreTrainedConfig],
    fields: dict,
    layout: list[WeightTransform],
) -> PreTrainedModel:
    """Return transformers' own model for a ViT or ViViT of ours.

    Only transformers' model without a head can have our representation layer, as its pooler; ValueError for others.

    Args:
        classes: {our class: transformers' class}, the one without a head first.
        config_class: transformers' configuration class.
        fields: fields of that configuration.
        layout: transforms from transformers' keys to ours.
    """
    model_class, size = their_class(ours, classes), ours.config.representation_size
    if model_class is next(iter(classes.values())):
        options = {"add_pooling_layer": size is not None}
        if getattr(ours.config, "use_mask_token", False):
            options["use_mask_token"] = True
    else:
        check_expressible(ours.config, {"representation_size": None})
        options = {}
    return write_theirs(ours, model_class, config_class(**fields | {"pooler_output_size": size}), layout, **options)


def encoder_layout(prefix: str, encoder: str) -> list[WeightTransform]:
    """Return the transforms, which can be reversed, of the layers and the pooler that ViT and ViViT share.

    Args:
        prefix: what transformers' keys begin with, such as "vit".
        encoder: what our keys of the encoder begin with, such as "model.".
    """
    renamings = {
        f"{prefix}.layernorm.": f"{encoder}norm.",
        f"{prefix}.pooler.dense.": "model.pooler.representation.",
        f"{prefix}.layers.": f"{encoder}layers.",
        ".layernorm_before.": ".attention_norm.",
        ".layernorm_after.": ".mlp_norm.",
        ".mlp.fc1.": ".mlp.up.",
        ".mlp.fc2.": ".mlp.down.",
        ".attention.o_proj.": ".attention.projection.",
    }
    return [
        *(WeightRenaming(theirs, ours) for theirs, ours in renamings.items()),
        WeightConverter([f".attention.{part}_proj" for part in "qkv"], ".attention.qkv", [Concatenate(0)]),
    ]


def vit_layout(prefix: str) -> list[WeightTransform]:
    """Return the transforms from keys of transformers' ViT ("vit") or DeiT ("deit") to ours; they can be reversed."""
    theirs, ours = f"{prefix}.embeddings.", "model.embeddings."
    tokens = ["cls_token", "distillation_token"] if prefix == "deit" else ["cls_token"]
    return [
        WeightRenaming(f"{theirs}patch_embeddings.", f"{ours}patch_embedding."),
        WeightRenaming(f"{theirs}position_embeddings", f"{ours}position_embedding.table"),
        WeightRenaming(f"{theirs}mask_token", f"{ours}mask_token"),
        *encoder_layout(prefix, "model."),
        WeightConverter([f"{theirs}{token}" for token in tokens], f"{ours}prefix_tokens", [Concatenate(1)]),
    ]
