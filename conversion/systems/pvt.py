"""Checkpoints of whai362/PVT, first version; variants have the names of its factory functions (pvt.py)."""

from math import isqrt

import torch
from transformers import PvtConfig as TransformersPvtConfig
from transformers import PvtForImageClassification as TransformersPvtForImageClassification
from transformers import PvtModel as TransformersPvtModel
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming, WeightTransform

from hf_vits.configuration import pair
from hf_vits.models.pvt.configuration_pvt import PvtConfig
from hf_vits.models.pvt.modeling_pvt import PvtForImageClassification, PvtModel

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

VARIANTS = {
    "pvt_tiny": {"num_labels": 1000},
    "pvt_small": {"depths": [3, 4, 6, 3], "num_labels": 1000},
    "pvt_medium": {"depths": [3, 4, 18, 3], "drop_path_rate": 0.3, "num_labels": 1000},
    "pvt_large": {"depths": [3, 8, 27, 3], "drop_path_rate": 0.3, "num_labels": 1000},
}


def model_class(fields: dict) -> type[PvtForImageClassification]:
    return PvtForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    numbers = range(1, 1 + (count(tensors, "patch_embed", first=1) or 0))
    kernels = [f"patch_embed{number}.proj.weight" for number in numbers]
    blocks = [f"block{number}." for number in numbers]
    reductions = [size(tensors, f"{block}0.attn.sr.weight", 2, 4) or 1 for block in blocks]
    widths = whole([size(tensors, kernel, 0, 4) for kernel in kernels])
    mlps = [size(tensors, f"{block}0.mlp.fc1.weight", 0, 2) for block in blocks]
    qkv = "block1.0.attn.q."
    inferred = found(
        depths=whole([count(tensors, block) for block in blocks]),
        hidden_sizes=widths,
        patch_sizes=whole([size(tensors, kernel, 2, 4) for kernel in kernels]),
        sequence_reduction_ratios=reductions or None,
        mlp_ratios=whole([ratio(*pair) for pair in zip(mlps, widths or [], strict=False)]),
        squeeze_sizes=[PvtConfig.squeeze_sizes[0]] * len(numbers) or None,
        num_channels=size(tensors, "patch_embed1.proj.weight", 1, 4),
        qkv_bias=has_bias(tensors, qkv),
        num_labels=num_labels(tensors),
    )
    if (num_positions := size(tensors, "pos_embed1", 1, 3)) and "patch_sizes" in inferred:
        inferred["image_size"] = isqrt(num_positions) * inferred["patch_sizes"][0]
    return inferred


def transforms(config: PvtConfig) -> list:
    last = len(config.depths) - 1
    renamings = {
        r"^cls_token$": f"model.stages.{last}.class_token",
        r"^norm\.": "model.norm.",
        r"^head\.": "classifier.",
    }
    for stage in range(last + 1):
        embeddings = f"model.stages.{stage}.embeddings" if stage else "model.embeddings"
        renamings[rf"^patch_embed{stage + 1}\.proj\."] = f"{embeddings}.projection."
        renamings[rf"^patch_embed{stage + 1}\.norm\."] = f"{embeddings}.norm."
        renamings[rf"^pos_embed{stage + 1}$"] = f"model.stages.{stage}.position_embedding.table"
        renamings[rf"^block{stage + 1}\.(\d+)\."] = rf"model.stages.{stage}.layers.\1."
    renamings |= {
        **FEED_FORWARD_BLOCK,
        r"\.attention\.q\.": ".attention.query.",
        r"\.attention\.kv\.": ".attention.key_value.",
        r"\.attention\.sr\.": ".attention.reduction.projection.",
        r"\.attention\.norm\.": ".attention.reduction.norm.",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def processor(variant: str, config: PvtConfig) -> dict:
    """Return the preprocessing of datasets.py, `build_transform`: short side to 256 / 224 of the size, centre crop."""
    return resize_and_crop(config.image_size, 0.875)


# transformers' own Pvt

CLASSES = {PvtModel: TransformersPvtModel, PvtForImageClassification: TransformersPvtForImageClassification}
# Fields that both configurations have under the same name.
FIELDS = (
    "image_size",
    "num_channels",
    "depths",
    "hidden_sizes",
    "num_attention_heads",
    "mlp_ratios",
    "patch_sizes",
    "sequence_reduction_ratios",
    "hidden_act",
    "layer_norm_eps",
    "qkv_bias",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "drop_path_rate",
)


def from_transformers(model):
    """Return our model for a `PvtModel` or `PvtForImageClassification` of transformers; ValueError for others.

    All norms of both have the same epsilon. transformers' models run at `image_size` only, ours at other sizes too.
    """
    model_class, theirs = our_class(model, CLASSES), model.config
    if list(theirs.strides) != list(theirs.patch_sizes):
        raise ValueError(
            f"our PVT has patches that touch, got strides={theirs.strides} and patch_sizes={theirs.patch_sizes}"
        )
    fields = copy_fields(theirs, FIELDS) | {"embedding_norm_eps": theirs.layer_norm_eps}
    fields["squeeze_sizes"] = [PvtConfig.squeeze_sizes[0]] * len(theirs.depths)
    if len(theirs.id2label or ()) == theirs.num_labels:  # their names and number of classes are apart
        fields |= copy_fields(theirs, ("id2label", "label2id"))
    else:
        fields["num_labels"] = theirs.num_labels
    return read_theirs(model, model_class, fields, layout(len(theirs.depths)))


def to_transformers(model):
    """Return transformers' model for a PVT of ours; ValueError for what transformers' Pvt cannot express."""
    target, config = their_class(model, CLASSES), model.config
    check_expressible(config, {"feed_forward": "mlp", "embedding_norm_eps": config.layer_norm_eps})
    fields = copy_fields(config, FIELDS)
    height, width = pair(config.image_size)
    if height != width:
        raise ValueError(f"transformers' Pvt needs square images, got image_size={config.image_size}")
    if list(config.patch_sizes[1:]) != [2] * (len(config.depths) - 1) or config.patch_sizes[0] != 4:
        raise ValueError(f"transformers' Pvt needs patch_sizes 4, 2, 2, ..., got {config.patch_sizes}")
    fields |= {"image_size": height, "strides": fields["patch_sizes"], "num_encoder_blocks": len(config.depths)}
    fields |= copy_fields(config, ("num_labels", "id2label", "label2id"))
    return write_theirs(model, target, TransformersPvtConfig(**fields), layout(len(config.depths)))


def layout(num_stages: int) -> list[WeightTransform]:
    """Return the transforms from keys of transformers' Pvt to ours; they can be reversed."""
    renamings = {"^pvt.encoder.layer_norm.": "^model.norm."}
    for stage in range(num_stages):
        theirs, ours = f"^pvt.encoder.patch_embeddings.{stage}.", f"^model.stages.{stage}."
        embeddings = f"{ours}embeddings." if stage else "^model.embeddings."
        renamings |= {
            f"{theirs}projection.": f"{embeddings}projection.",
            f"{theirs}layer_norm.": f"{embeddings}norm.",
            f"{theirs}position_embeddings": f"{ours}position_embedding.table",
            f"{theirs}cls_token": f"{ours}class_token",
            f"^pvt.encoder.block.{stage}.": f"{ours}layers.",
        }
    renamings |= {
        ".attention.self.query.": ".attention.query.",
        ".attention.self.sequence_reduction.": ".attention.reduction.projection.",
        ".attention.self.layer_norm.": ".attention.reduction.norm.",
        ".attention.output.dense.": ".attention.projection.",
        ".layer_norm_1.": ".attention_norm.",
        ".layer_norm_2.": ".feed_forward.norm.",
        ".mlp.dense1.": ".feed_forward.mlp.up.",
        ".mlp.dense2.": ".feed_forward.mlp.down.",
    }
    return [
        *(WeightRenaming(theirs, ours) for theirs, ours in renamings.items()),
        WeightConverter(
            [f".attention.self.{part}" for part in ("key", "value")], ".attention.key_value", [Concatenate(0)]
        ),
    ]
