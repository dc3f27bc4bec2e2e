"""Checkpoints of blackfeather-wang/Dynamic-Vision-Transformer; variants have the names of its factory functions.

These are in models/t2t_vit.py and models_deit.py. A variant's name with "_no_reuse" has both kinds of reuse off, as
`DVT_T2t_vit_12_model(feature_reuse=False, relation_reuse=False)` makes it.
"""

from math import isqrt

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.dvt.configuration_dvt import DvtConfig
from hf_vits.models.dvt.modeling_dvt import DvtForImageClassification

from ..shared.inference import count, found, has_bias, num_labels, ratio, size, whole
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import BLOCK
from .t2t import TOKEN_LAYERS, infer_token_layers

# Keys of the networks begin with these, in the order in which they run.
NETWORKS = ("less_less_token.", "less_token.", "normal_token.")
T2T_12 = {
    "hidden_size": 256,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "num_labels": 1000,
}
T2T_14 = T2T_12 | {
    "hidden_size": 384,
    "num_hidden_layers": 14,
    "num_attention_heads": 6,
    "intermediate_size": 1152,
}
DEIT_SMALL = {
    "stem": "patch",
    "kernel_sizes": [32, 23, 16],
    "strides": [32, 23, 16],
    "paddings": [0, 3, 0],
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "num_labels": 1000,
}
VARIANTS = {"DVT_T2t_vit_12": T2T_12, "DVT_T2t_vit_14": T2T_14, "DVT_Deit_small": DEIT_SMALL}
COARSEST = 32  # pixels of a token of the first network


def model_class(fields: dict) -> type[DvtForImageClassification]:
    return DvtForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    first, second, _ = NETWORKS
    reuse = f"{second}blocks.0.feature_resuse_mlp.1."
    has_reuse = any(key.startswith(f"{second}blocks.") for key in tensors)
    relations = size(tensors, f"{second}relation_reuse_conv.0.weight", 1, 4)
    inferred = infer_token_layers(tensors, first) | found(
        hidden_size=size(tensors, f"{first}cls_token", 2, 3),
        num_hidden_layers=count(tensors, f"{first}blocks."),
        intermediate_size=size(tensors, f"{first}blocks.0.mlp.fc1.weight", 0, 2),
        qkv_bias=has_bias(tensors, f"{first}blocks.0.attn.qkv."),
        feature_reuse=f"{reuse}fc1.weight" in tensors if has_reuse else None,
        reuse_intermediate_size=size(tensors, f"{reuse}fc1.weight", 0, 2),
        reused_size=size(tensors, f"{reuse}fc2.weight", 0, 2),
        relation_reuse=relations is not None if has_reuse else None,
        relation_ratio=ratio(size(tensors, f"{second}relation_reuse_conv.0.weight", 0, 4), relations),
        num_labels=num_labels(tensors, f"{first}head.bias"),
    )
    if relations and inferred.get("num_hidden_layers"):
        inferred["num_attention_heads"] = relations // inferred["num_hidden_layers"]
    if num_positions := size(tensors, f"{first}pos_embed", 1, 3):
        inferred["image_size"] = COARSEST * isqrt(num_positions - 1)
    return inferred | infer_stem(tensors, fields)


def infer_stem(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return kind of stem, channels of the image and, of DeiT's, the sizes of the patches."""
    patches = [size(tensors, f"{network}patch_embed.proj.weight", 2, 4) for network in NETWORKS]
    if kernel_sizes := whole(patches):
        channels = size(tensors, f"{NETWORKS[0]}patch_embed.proj.weight", 1, 4)
        # timm/models/vision_transformer.py, `PatchEmbed`: padding 3 unless patches have 16 or 32 pixels.
        paddings = [0 if kernel_size in (16, 32) else 3 for kernel_size in kernel_sizes]
        sizes = {"kernel_sizes": kernel_sizes, "strides": kernel_sizes, "paddings": paddings}
        return {"stem": "patch", "num_channels": channels, **sizes}
    if num_features := size(tensors, f"{NETWORKS[0]}tokens_to_token.attention1.norm1.weight", 0, 1):
        sizes = {
            name: list(DvtConfig.__dataclass_fields__[name].default)
            for name in ("kernel_sizes", "strides", "paddings")
        }
        return {"stem": "t2t", "num_channels": max(1, num_features // sizes["kernel_sizes"][0] ** 2), **sizes}
    return {}


def transforms(config: DvtConfig) -> list:
    ours = [f"model.early_networks.{index}." for index in range(config.num_exits - 1)] + ["model.last_network."]
    renamings = {}
    for index, (network, name) in enumerate(zip(NETWORKS, ours, strict=True)):
        start = f"^{network.replace('.', chr(92) + '.')}"
        renamings |= {
            f"{start}cls_token$": f"{name}embeddings.class_token",
            f"{start}pos_embed$": f"{name}embeddings.position_embedding.table",
            rf"{start}patch_embed\.proj\.": f"{name}embeddings.projection.",
            rf"{start}tokens_to_token\.project\.": f"{name}embeddings.projection.",
            rf"{start}tokens_to_token\.attention1\.": f"{name}embeddings.layers.0.",
            rf"{start}tokens_to_token\.attention2\.": f"{name}embeddings.layers.1.",
            rf"{start}relation_reuse_conv\.0\.": f"{name}relation_reuse.up.",
            rf"{start}relation_reuse_conv\.2\.": f"{name}relation_reuse.down.",
            rf"{start}blocks\.": f"{name}layers.",
            rf"{start}norm\.": f"{name}norm.",
            rf"{start}head\.": f"classifier.exits.{index}.",
        }
    reuse = {
        r"\.feature_resuse_mlp\.0\.": ".reuse_norm.",
        r"\.feature_resuse_mlp\.1\.fc1\.": ".reuse_mlp.up.",
        r"\.feature_resuse_mlp\.1\.fc2\.": ".reuse_mlp.down.",
    }
    return [WeightRenaming(old, new) for old, new in (renamings | reuse | TOKEN_LAYERS | BLOCK).items()]


def processor(variant: str, config: DvtConfig) -> dict:
    """Return the preprocessing of inference.py: short side to size * 256 / 224, bicubic; centre crop."""
    return resize_and_crop(config.image_size, 224 / 256)
