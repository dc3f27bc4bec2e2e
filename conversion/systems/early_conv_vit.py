"""srvCodes/continual_learning_with_vit: its networks with a linear head per task, whose rows are joined in order.

Variants have the names of the original's networks (src/networks). `Early_conv_vit` is `EarlyConvViT`; the `OVit` and
`Vit` of AugReg are timm's plain ViT, here `ViT`.
"""

import re

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.early_conv_vit.configuration_early_conv_vit import EarlyConvViTConfig
from hf_vits.models.early_conv_vit.modeling_early_conv_vit import EarlyConvViTForImageClassification
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification

from ..shared.inference import count, found, size
from ..shared.preprocessing import stretch
from ..shared.timm_vit import infer_image_size, infer_vit, vit_fields, vit_renamings

STEM = {"stem_hidden_sizes": [24, 48, 96, 196], "head_dim": 64}
VARIANTS = {
    "Early_conv_vit": {**STEM, "num_labels": 100},
    "OVit_tiny_16_augreg_224": vit_fields(192, 12, 3, hidden_act="gelu", num_labels=100),
    "Vit_tiny_16_augreg_224": vit_fields(192, 12, 3, hidden_act="gelu", num_labels=100),
}
# datasets/dataset_config.py: (mean, standard deviation) of the data on which the paper trained the networks
CIFAR = ([0.5071, 0.4866, 0.4409], [0.2009, 0.1984, 0.2023])
IMAGENET_32 = ([0.481, 0.457, 0.408], [0.260, 0.253, 0.268])


def model_class(fields: dict) -> type[EarlyConvViTForImageClassification] | type[ViTForImageClassification]:
    return EarlyConvViTForImageClassification if "stem_hidden_sizes" in fields else ViTForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Join the heads of all tasks, heads.N, into one classifier, and drop the network's name in front of the keys."""
    kept, heads = {}, {}
    for key, value in tensors.items():
        if match := re.fullmatch(r"heads\.(\d+)\.(weight|bias)", key):
            heads.setdefault(match[2], {})[int(match[1])] = value
        else:
            kept[re.sub(r"^(model\.)?(model|ovit|vit)\.(?=\w+)", "", key)] = value
    for name, parts in heads.items():
        if sorted(parts) != list(range(len(parts))):
            raise ValueError(f"the checkpoint does not fit: heads must be numbered from 0, found {sorted(parts)}")
        kept[f"heads.{name}"] = torch.cat([parts[number] for number in sorted(parts)])
    return kept


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = {"num_labels": size(tensors, "heads.bias", 0, 1) or 0}
    if "stem_hidden_sizes" not in fields:
        inferred |= infer_vit(tensors)
        return inferred | infer_image_size(tensors, "", 1, inferred.get("patch_size", 16))
    number = count(tensors, "conv_layers.") or 0
    stem = [size(tensors, f"conv_layers.{index}.0.weight", 0, 4) for index in range(number)]
    rows = size(tensors, "transformer.layers.0.0.fn.to_qkv.weight", 0, 2)
    return inferred | found(
        num_channels=size(tensors, "conv_layers.0.0.weight", 1, 4),
        stem_hidden_sizes=stem or None,
        hidden_size=size(tensors, "cls_token", 2, 3),
        max_position_embeddings=size(tensors, "pos_embedding", 1, 3),
        num_hidden_layers=count(tensors, "transformer.layers."),
        num_attention_heads=rows // (3 * fields["head_dim"]) if rows else None,
        intermediate_size=size(tensors, "transformer.layers.0.1.fn.net.0.weight", 0, 2),
    )


def transforms(config: EarlyConvViTConfig | ViTConfig) -> list[WeightRenaming]:
    head = WeightRenaming(r"^heads\.", "classifier.")
    if isinstance(config, ViTConfig):
        return [head, *vit_renamings("model.")]
    renamings = {
        r"^conv_layers\.(\d+)\.0\.": r"model.embeddings.stem.layers.\1.",
        r"^conv_layers\.conv_1x1\.": "model.embeddings.stem.projection.",
        r"^cls_token": "model.embeddings.prefix_tokens",
        r"^pos_embedding": "model.embeddings.position_embedding.table",
        r"^transformer\.layers\.": "model.layers.",
        r"\.0\.norm\.": ".attention_norm.",
        r"\.0\.fn\.to_qkv\.": ".attention.qkv.",
        r"\.0\.fn\.to_out\.0\.": ".attention.projection.",
        r"\.1\.norm\.": ".mlp_norm.",
        r"\.1\.fn\.net\.0\.": ".mlp.up.",
        r"\.1\.fn\.net\.3\.": ".mlp.down.",
    }
    return [head, *(WeightRenaming(old, new) for old, new in renamings.items())]


def processor(variant: str, config: EarlyConvViTConfig | ViTConfig) -> dict:
    return stretch(config.image_size, *(CIFAR if isinstance(config, ViTConfig) else IMAGENET_32))
