"""Networks of srvCodes/continual_learning_with_vit: Early-conv ViT, and OVit, which is a plain ViT.

Variants have the names of the original's networks. A checkpoint is the state dict of the whole network with a linear
head for each task (networks/network.py, `LLL_Net`); our classifier has all heads one after the other, in the order of
the tasks. Read from the file: classes, sizes, depth and channels of a head; the number of heads is the variant's.
"""

import re

import torch
from PIL.Image import Resampling
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.continual.configuration_early_conv_vit import EarlyConvViTConfig
from hf_vits.models.continual.modeling_early_conv_vit import EarlyConvViTForImageClassification
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification

from ..shared.inference import count, found, num_labels, size
from ..shared.timm_vit import infer_vit, vit_fields, vit_renamings

VARIANTS = {
    "Early_conv_vit": {"head_dim": 64, "num_labels": 300},
    "OVit_tiny_16_augreg_224": {
        **vit_fields(192, 12, 3),
        "hidden_act": "gelu",
        "position_interpolation": "bicubic",
        "num_labels": 100,
    },
}
ENCODER, HEAD = r"^model\.(?:model|ovit)\.", re.compile(r"heads\.(\d+)\.(weight|bias)")
# datasets/dataset_config.py: mean and deviation of imagenet_32_reduced and of cifar100_224
STATISTICS = {
    EarlyConvViTConfig: ([0.481, 0.457, 0.408], [0.260, 0.253, 0.268]),
    ViTConfig: ([0.5071, 0.4866, 0.4409], [0.2009, 0.1984, 0.2023]),
}


def model_class(fields: dict) -> type[PreTrainedModel]:
    return EarlyConvViTForImageClassification if "head_dim" in fields else ViTForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Join the heads of the tasks; a layer whose only head is as wide as the tokens gets the projection it lacks."""
    prepared = {key: tensor for key, tensor in tensors.items() if not HEAD.fullmatch(key)}
    found_heads: dict[str, dict[int, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if match := HEAD.fullmatch(key):
            found_heads.setdefault(match[2], {})[int(match[1])] = tensor
    for kind, parts in found_heads.items():
        prepared[f"head.{kind}"] = torch.cat([parts[task] for task in sorted(parts)])
    for key in tensors:
        if key.endswith(".fn.to_qkv.weight") and key.replace("to_qkv", "to_out.0") not in tensors:
            width = tensors[key].shape[1]
            prepared[key.replace("to_qkv", "to_out.0")] = torch.eye(width)
            prepared[key.replace("to_qkv.weight", "to_out.0.bias")] = torch.zeros(width)
    return prepared


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    if "head_dim" not in fields:
        ovit = {re.sub(ENCODER, "", key): tensor for key, tensor in tensors.items()}
        return infer_vit(ovit) | {"num_labels": num_labels(tensors)}
    stem = [
        size(tensors, f"model.model.conv_layers.{index}.0.weight", 0, 4)
        for index in range(count(tensors, "model.model.conv_layers.") or 0)
    ]
    layer = "model.model.transformer.layers.0."
    heads = fields.get("num_attention_heads", EarlyConvViTConfig.num_attention_heads)
    channels = size(tensors, f"{layer}0.fn.to_qkv.weight", 0, 2)
    return found(
        num_channels=size(tensors, "model.model.conv_layers.0.0.weight", 1, 4),
        stem_hidden_sizes=stem if stem and None not in stem else None,
        hidden_size=size(tensors, "model.model.cls_token", 2, 3),
        num_hidden_layers=count(tensors, "model.model.transformer.layers."),
        head_dim=None if channels is None else channels // (3 * heads),
        intermediate_size=size(tensors, f"{layer}1.fn.net.0.weight", 0, 2),
        num_positions=size(tensors, "model.model.pos_embedding", 1, 3),
        num_labels=num_labels(tensors),
    )


def transforms(config: EarlyConvViTConfig | ViTConfig) -> list:
    head = WeightRenaming(r"^head\.", "classifier.")
    if isinstance(config, ViTConfig):
        return [*vit_renamings("model.", prefix=ENCODER.removeprefix("^")), head]
    embeddings = "model.embeddings."
    last = len(config.stem_hidden_sizes)
    names = {
        r"^model\.model\.pos_embedding$": f"{embeddings}positions.table",
        r"^model\.model\.cls_token$": f"{embeddings}class_token",
        r"^model\.model\.conv_layers\.(\d+)\.0\.": rf"{embeddings}stem.\1.",
        r"^model\.model\.conv_layers\.conv_1x1\.": f"{embeddings}stem.{last}.",
        r"^model\.model\.transformer\.": "model.",
        r"\.0\.norm\.": ".attention_norm.",
        r"\.0\.fn\.to_qkv\.": ".attention.qkv.",
        r"\.0\.fn\.to_out\.0\.": ".attention.projection.",
        r"\.1\.norm\.": ".mlp_norm.",
        r"\.1\.fn\.net\.0\.": ".mlp.up.",
        r"\.1\.fn\.net\.3\.": ".mlp.down.",
    }
    return [*(WeightRenaming(old, new) for old, new in names.items()), head]


def processor(variant: str, config: EarlyConvViTConfig | ViTConfig) -> dict:
    """Return the preprocessing of its evaluation: short side to the image's size, bilinear, centre crop."""
    mean, std = STATISTICS[type(config)]
    side = config.image_size if isinstance(config.image_size, int) else min(config.image_size)
    return {
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "resample": Resampling.BILINEAR,
        "do_center_crop": True,
        "image_mean": mean,
        "image_std": std,
    }
