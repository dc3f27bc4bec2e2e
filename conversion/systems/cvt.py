"""Checkpoints of microsoft/CvT, and transformers' own Cvt."""

from math import isqrt

import torch
from transformers import CvtConfig as TransformersCvtConfig
from transformers import CvtForImageClassification as TransformersCvtForImageClassification
from transformers import CvtModel as TransformersCvtModel
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.cvt.configuration_cvt import CvtConfig
from hf_vits.models.cvt.modeling_cvt import CvtForImageClassification, CvtModel

from ..shared.inference import count, found, has_bias, num_labels, ratio, size, whole
from ..shared.preprocessing import resize_and_crop, stretch
from ..shared.timm_vit import BLOCK
from ..shared.transformers_layout import (
    check_expressible,
    copy_fields,
    our_class,
    read_theirs,
    their_class,
    write_theirs,
)

CVT_21 = {"depths": [1, 4, 16], "hidden_sizes": [64, 192, 384], "num_attention_heads": [1, 3, 6]}
CVT_W24 = {"depths": [2, 2, 20], "hidden_sizes": [192, 768, 1024], "num_attention_heads": [3, 12, 16]}

VARIANTS = {
    "cvt-13-224x224": {"num_labels": 1000},
    "cvt-13-384x384": {"image_size": 384, "num_labels": 1000},
    "cvt-21-224x224": {**CVT_21, "num_labels": 1000},
    "cvt-21-384x384": {**CVT_21, "image_size": 384, "num_labels": 1000},
    "cvt-w24-384x384": {**CVT_W24, "image_size": 384, "drop_path_rate": 0.3, "num_labels": 1000},
}


def model_class(fields: dict) -> type[CvtForImageClassification]:
    return CvtForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    stages = [f"stage{stage}." for stage in range(count_stages(tensors))]
    mlps = [f"{stage}blocks.0.mlp.fc1.weight" for stage in stages]
    qkv, reduction = "stage0.blocks.0.attn.proj_q.", "stage0.blocks.0.attn.conv_proj_"
    inferred = infer_stages(tensors, [f"{stage}patch_embed.proj." for stage in stages])
    inferred |= found(
        depths=whole([count(tensors, f"{stage}blocks.") for stage in stages]),
        mlp_ratios=whole([ratio(size(tensors, mlp, 0, 2), size(tensors, mlp, 1, 2)) for mlp in mlps]),
        qkv_bias=has_bias(tensors, qkv),
    )
    inferred |= infer_kernels(tensors, [f"{stage}blocks.0.attn.conv_proj_q.conv.weight" for stage in stages])
    if any(key.startswith("stage0.blocks.0.attn.") for key in tensors):
        kept = any(key.startswith(reduction) for key in tensors)
        inferred["key_value_projection"] = "convolution" if kept else "average"
    return inferred | {
        "num_labels": num_labels(tensors),
        "use_class_token": any(key.endswith(".cls_token") for key in tensors),
    }


def count_stages(tensors: dict[str, torch.Tensor], prefix: str = "") -> int:
    return count(tensors, f"{prefix}stage") or 0


def infer_stages(tensors: dict[str, torch.Tensor], embeddings: list[str]) -> dict:
    """Return the sizes of the convolutions at the start of the stages, by what the keys of each begin with."""
    kernels = [f"{embedding}weight" for embedding in embeddings]
    return found(
        num_channels=size(tensors, kernels[0], 1, 4) if kernels else None,
        hidden_sizes=whole([size(tensors, kernel, 0, 4) for kernel in kernels]),
        patch_sizes=whole([size(tensors, kernel, 2, 4) for kernel in kernels]),
    )


def infer_kernels(tensors: dict[str, torch.Tensor], convolutions: list[str]) -> dict:
    """Return the sides of each stage's convolutions before queries, keys and values; None where all are 3."""
    sides = whole([size(tensors, key, 3, 4) for key in convolutions])
    return {} if sides is None else {"projection_kernel_sizes": None if set(sides) == {3} else sides}


def infer_windowed(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict:
    """Return the fields of microsoft/esvit's CvT that its tensors, whose keys begin with `prefix`, record."""
    stages = [f"{prefix}stage{stage}." for stage in range(count_stages(tensors, prefix))]
    mlps = [f"{stage}1.layers.0.1.fn.net.0.weight" for stage in stages]
    attention = f"{prefix}stage0.1.layers.0.0.fn."
    rows = size(tensors, f"{attention}rel_pos_bias_table", 0, 2)
    inferred = infer_stages(tensors, [f"{stage}0.proj." for stage in stages])
    inferred |= infer_kernels(tensors, [f"{stage}1.layers.0.0.fn.qkv.dw.weight" for stage in stages])
    return inferred | found(
        window_size=(isqrt(rows) + 1) // 2 if rows else None,
        num_attention_heads=whole(
            [size(tensors, f"{stage}1.layers.0.0.fn.rel_pos_bias_table", 1, 2) for stage in stages]
        ),
        use_relative_position_bias=rows is not None if f"{attention}proj_out.weight" in tensors else None,
        depths=whole([count(tensors, f"{stage}1.layers.") for stage in stages]),
        mlp_ratios=whole([ratio(size(tensors, mlp, 0, 2), size(tensors, mlp, 1, 2)) for mlp in mlps]),
        qkv_bias=has_bias(tensors, f"{attention}qkv.pw."),
    )


def transforms(config: CvtConfig) -> list:
    renamings = {
        r"^stage0\.patch_embed\.proj\.": "model.embeddings.projection.",
        r"^stage0\.patch_embed\.norm\.": "model.embeddings.norm.",
        r"^stage(\d+)\.": r"model.stages.\1.",
        r"\.patch_embed\.proj\.": ".embeddings.projection.",
        r"\.patch_embed\.norm\.": ".embeddings.norm.",
        r"\.cls_token": ".class_token",
        r"\.blocks\.": ".layers.",
        **BLOCK,
        r"^norm\.": "model.norm.",
        r"^head\.": "classifier.",
    }
    for short, name in {"q": "query", "k": "key", "v": "value"}.items():
        renamings[rf"\.conv_proj_{short}\.conv\."] = f".{name}_reduction.0."
        renamings[rf"\.conv_proj_{short}\.bn\."] = f".{name}_reduction.1."
        renamings[rf"\.proj_{short}\."] = f".{name}."
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def window_renamings(encoder: str, prefix: str = "") -> list[WeightRenaming]:
    """Return the renamings from the keys of microsoft/esvit's CvT to the keys of our encoder.

    Args:
        encoder: what our keys begin with, such as "model.".
        prefix: regular expression of what the original's keys begin with.
    """
    renamings = {
        r"\.0\.fn\.rel_pos_bias_table$": ".attention.position_bias.table",
        rf"^{prefix}stage0\.0\.proj\.": f"{encoder}embeddings.projection.",
        rf"^{prefix}stage0\.0\.norm\.": f"{encoder}embeddings.norm.",
        rf"^{prefix}stage(\d+)\.0\.proj\.": rf"{encoder}stages.\1.embeddings.projection.",
        rf"^{prefix}stage(\d+)\.0\.norm\.": rf"{encoder}stages.\1.embeddings.norm.",
        rf"^{prefix}stage(\d+)\.1\.layers\.": rf"{encoder}stages.\1.layers.",
        rf"^{prefix}norm\.": f"{encoder}norm.",
    }
    for old, new in {
        r"0\.norm": "attention_norm",
        r"0\.fn\.qkv\.dw": "attention.convolution.0",
        r"0\.fn\.qkv\.bn": "attention.convolution.1",
        r"0\.fn\.qkv\.pw": "attention.qkv",
        r"0\.fn\.proj_out": "attention.projection",
        r"1\.norm": "mlp_norm",
        r"1\.fn\.net\.0": "mlp.up",
        r"1\.fn\.net\.2": "mlp.down",
    }.items():
        renamings[rf"\.layers\.(\d+)\.{old}\."] = rf".layers.\1.{new}."
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def processor(variant: str, config: CvtConfig) -> dict:
    """Return the preprocessing of lib/dataset/transformas/build.py, bicubic.

    Variants of 224 pixels resize the short side to 256 and crop the centre, others resize without a crop.
    """
    return resize_and_crop(config.image_size, 0.875) if variant.endswith("224x224") else stretch(config.image_size)


# transformers' own Cvt


CLASSES = {CvtModel: TransformersCvtModel, CvtForImageClassification: TransformersCvtForImageClassification}
# {our field: transformers' field}
FIELDS = {
    "num_channels": "num_channels",
    "depths": "depth",
    "hidden_sizes": "embed_dim",
    "num_attention_heads": "num_heads",
    "patch_sizes": "patch_sizes",
    "patch_strides": "patch_stride",
    "patch_paddings": "patch_padding",
    "mlp_ratios": "mlp_ratio",
    "id2label": "id2label",
    "label2id": "label2id",
}


def from_transformers(model):
    """Return our model for a `CvtModel` or `CvtForImageClassification` of transformers; both use the exact GELU."""
    model_class, theirs = our_class(model, CLASSES), model.config
    count = len(theirs.depth)
    kernels = list(theirs.kernel_qkv[:count])
    plain = {"qkv_projection_method": "dw_bn", "stride_q": 1, "padding_q": None, "padding_kv": None}
    for name, value in plain.items():
        expected = [kernel // 2 for kernel in kernels] if value is None else [value] * count
        if list(getattr(theirs, name)[:count]) != expected:
            raise ValueError(f"our CvT has {name}={expected} for kernel_qkv={kernels}, got {getattr(theirs, name)}")
    if len(set(theirs.stride_kv[:count])) > 1:
        raise ValueError(f"our CvT has one stride_kv for all stages, got {theirs.stride_kv}")
    fields = copy_fields(theirs, FIELDS) | {
        "projection_kernel_sizes": None if set(kernels) == {3} else kernels,
        "key_value_stride": theirs.stride_kv[0],
        "hidden_act": "gelu",
        "use_class_token": theirs.cls_token[-1],
        "drop_path_rate": theirs.drop_path_rate[-1],
    }
    options = {"add_pooling_layer": False} if model_class is CvtModel else {}
    return read_theirs(model, model_class, fields, layout(), **options)


def to_transformers(model):
    """Return transformers' model for a CvT of ours; ValueError for what transformers' Cvt cannot express."""
    config = model.config
    plain = {"window_size": None, "key_value_projection": "convolution"}
    check_expressible(config, plain | {"hidden_act": "gelu", "qkv_bias": True})
    fields = copy_fields(config, {theirs: ours for ours, theirs in FIELDS.items()})
    fields["mlp_ratio"] = [float(ratio) for ratio in fields["mlp_ratio"]]
    count, kernels = len(config.depths), config.kernel_sizes
    fields |= {"num_stages": count, "kernel_qkv": kernels, "stride_kv": [config.key_value_stride] * count}
    fields |= {"padding_q": [kernel // 2 for kernel in kernels], "padding_kv": [kernel // 2 for kernel in kernels]}
    same = {"stride_q": 1, "qkv_bias": True, "qkv_projection_method": "dw_bn"}
    same |= {"drop_rate": float(config.hidden_dropout_prob)}
    same |= {"attention_drop_rate": float(config.attention_probs_dropout_prob)}
    fields |= {name: [value] * count for name, value in same.items()}
    earlier_stages = len(config.depths) - 1
    theirs = TransformersCvtConfig(
        **fields,
        drop_path_rate=[0.0] * earlier_stages + [float(config.drop_path_rate)],
        cls_token=[False] * earlier_stages + [config.use_class_token],
    )
    return write_theirs(model, their_class(model, CLASSES), theirs, layout())


def layout() -> list:
    """Return the transforms from keys of transformers' Cvt to ours; they can be reversed."""
    inner = ".attention.attention."
    renamings = {
        ".embedding.convolution_embeddings.projection.": ".embeddings.projection.",
        ".embedding.convolution_embeddings.normalization.": ".embeddings.norm.",
        "^cvt.encoder.stages.0.embeddings.": "model.embeddings.",
        "^cvt.encoder.stages.": "model.stages.",
        ".cls_token": ".class_token",
    }
    for name in ("query", "key", "value"):
        reduction = f"{inner}convolution_projection_{name}.convolution_projection."
        renamings[f"{inner}projection_{name}."] = f".attention.{name}."
        renamings[f"{reduction}convolution."] = f".attention.{name}_reduction.0."
        renamings[f"{reduction}normalization."] = f".attention.{name}_reduction.1."
    renamings |= {
        ".attention.output.dense.": ".attention.projection.",
        ".intermediate.dense.": ".mlp.up.",
        ".output.dense.": ".mlp.down.",
        ".layernorm_before.": ".attention_norm.",
        ".layernorm_after.": ".mlp_norm.",
        "^layernorm.": "model.norm.",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]
