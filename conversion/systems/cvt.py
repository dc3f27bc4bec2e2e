"""Checkpoints of microsoft/CvT, and transformers' own Cvt."""

import torch
from transformers import CvtConfig as TransformersCvtConfig
from transformers import CvtForImageClassification as TransformersCvtForImageClassification
from transformers import CvtModel as TransformersCvtModel
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.cvt.configuration_cvt import CvtConfig
from hf_vits.models.cvt.modeling_cvt import CvtForImageClassification, CvtModel

from ..core import build
from ..shared.inference import count, found, ratio, size, whole
from ..shared.preprocessing import resize_and_crop, stretch
from ..shared.transformers_layout import check_expressible, our_class, read_theirs, write_theirs

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
        qkv_bias=f"{qkv}bias" in tensors if f"{qkv}weight" in tensors else None,
    )
    if any(key.startswith("stage0.blocks.0.attn.") for key in tensors):
        kept = any(key.startswith(reduction) for key in tensors)
        inferred["key_value_projection"] = "convolution" if kept else "average"
    return inferred | {
        "num_labels": len(tensors["head.bias"]) if "head.bias" in tensors else 0,
        "use_class_token": any(key.endswith(".cls_token") for key in tensors),
    }


def count_stages(tensors: dict[str, torch.Tensor], prefix: str = "") -> int:
    return count(tensors, f"{prefix}stage") or 0


def infer_stages(tensors: dict[str, torch.Tensor], embeddings: list[str]) -> dict:
    """Return the sizes of the convolutions, whose keys begin with `embeddings`, before each stage."""
    kernels = [f"{embedding}weight" for embedding in embeddings]
    return found(
        num_channels=size(tensors, kernels[0], 1, 4) if kernels else None,
        hidden_sizes=whole([size(tensors, kernel, 0, 4) for kernel in kernels]),
        patch_sizes=whole([size(tensors, kernel, 2, 4) for kernel in kernels]),
    )


def infer_windowed(tensors: dict[str, torch.Tensor], prefix: str = "") -> dict:
    """Return the fields of microsoft/esvit's CvT that its tensors, whose keys begin with `prefix`, record."""
    stages = [f"{prefix}stage{stage}." for stage in range(count_stages(tensors, prefix))]
    mlps = [f"{stage}1.layers.0.1.fn.net.0.weight" for stage in stages]
    qkv = f"{prefix}stage0.1.layers.0.0.fn.qkv.pw."
    return infer_stages(tensors, [f"{stage}0.proj." for stage in stages]) | found(
        depths=whole([count(tensors, f"{stage}1.layers.") for stage in stages]),
        mlp_ratios=whole([ratio(size(tensors, mlp, 0, 2), size(tensors, mlp, 1, 2)) for mlp in mlps]),
        qkv_bias=f"{qkv}bias" in tensors if f"{qkv}weight" in tensors else None,
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
        r"\.norm1\.": ".attention_norm.",
        r"\.norm2\.": ".mlp_norm.",
        r"\.attn\.proj\.": ".attention.projection.",
        r"\.mlp\.fc1\.": ".mlp.up.",
        r"\.mlp\.fc2\.": ".mlp.down.",
        r"^norm\.": "model.norm.",
        r"^head\.": "classifier.",
    }
    for short, name in {"q": "query", "k": "key", "v": "value"}.items():
        renamings[rf"\.attn\.conv_proj_{short}\.conv\."] = f".attention.{name}_reduction.0."
        renamings[rf"\.attn\.conv_proj_{short}\.bn\."] = f".attention.{name}_reduction.1."
        renamings[rf"\.attn\.proj_{short}\."] = f".attention.{name}."
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def window_renamings(encoder: str, prefix: str = "") -> list[WeightRenaming]:
    """Renamings from the keys of microsoft/esvit's CvT, which begin with `prefix`, to those of an encoder of ours.

    Args:
        encoder: what our keys begin with, such as "model.".
        prefix: a regular expression.
    """
    renamings = {
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
    """lib/dataset/transformas/build.py: 224 is cropped from 256, larger sizes are stretched to, both bicubic."""
    return resize_and_crop(config.image_size, 0.875) if variant.endswith("224x224") else stretch(config.image_size)


# transformers' own Cvt


def from_transformers(model):
    """`CvtModel` or `CvtForImageClassification` of transformers, as ours; it computes the exact GELU."""
    classes = {CvtModel: TransformersCvtModel, CvtForImageClassification: TransformersCvtForImageClassification}
    theirs = model.config
    fields = {
        "num_channels": theirs.num_channels,
        "depths": theirs.depth,
        "hidden_sizes": theirs.embed_dim,
        "num_attention_heads": theirs.num_heads,
        "patch_sizes": theirs.patch_sizes,
        "patch_strides": theirs.patch_stride,
        "patch_paddings": theirs.patch_padding,
        "mlp_ratios": theirs.mlp_ratio,
        "hidden_act": "gelu",
        "use_class_token": theirs.cls_token[-1],
        "drop_path_rate": theirs.drop_path_rate[-1],
        "id2label": theirs.id2label,
        "label2id": theirs.label2id,
    }
    model_class = our_class(model, classes)
    has_head = model_class is CvtForImageClassification
    ours = build(model_class, fields) if has_head else build(model_class, fields, add_pooling_layer=False)
    return read_theirs(ours, model, layout())


def to_transformers(model):
    """A CvT of ours, as transformers' own, which computes the exact GELU: ValueError where ours does not."""
    config = model.config
    plain = {"window_size": None, "key_value_projection": "convolution", "key_value_stride": 2}
    check_expressible(config, plain | {"hidden_act": "gelu", "qkv_bias": True})
    stages = len(config.depths)
    theirs = TransformersCvtConfig(
        num_channels=config.num_channels,
        patch_sizes=list(config.patch_sizes),
        patch_stride=list(config.patch_strides),
        patch_padding=list(config.patch_paddings),
        embed_dim=list(config.hidden_sizes),
        num_heads=list(config.num_attention_heads),
        depth=list(config.depths),
        mlp_ratio=[float(ratio) for ratio in config.mlp_ratios],
        drop_path_rate=[0.0] * (stages - 1) + [float(config.drop_path_rate)],
        cls_token=[False] * (stages - 1) + [config.use_class_token],
        id2label=config.id2label,
        label2id=config.label2id,
    )
    has_head = isinstance(model, CvtForImageClassification)
    target = TransformersCvtForImageClassification(theirs) if has_head else TransformersCvtModel(theirs)
    return write_theirs(model, target, layout())


def layout() -> list:
    """Keys of transformers' Cvt to ours; every step can be reversed."""
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
