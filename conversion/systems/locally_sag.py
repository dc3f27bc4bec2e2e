"""Checkpoints of shellysheynin/Locally-SAG-Transformer, for ImageNet and, with `cifar_`, for CIFAR.

Variants are named after the scripts that train them (main_tiny_imagenet.py, main_base_cifar.py and so on).
"""

import re

import torch
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming

from hf_vits.models.locally_sag.configuration_locally_sag import LocallySagConfig
from hf_vits.models.locally_sag.modeling_locally_sag import LocallySagForImageClassification

from ..shared.inference import count, found, num_labels, ratio, size, whole
from ..shared.preprocessing import resize_and_crop


def cifar(hidden_size: int, num_heads: int, depths: tuple[int, ...] = (2, 4, 4, 4), num_labels: int = 10) -> dict:
    return {
        "image_size": 32,
        "depths": list(depths),
        "hidden_sizes": [hidden_size] * 4,
        "num_attention_heads": [num_heads] * 4,
        "patch_size": 3,
        "patch_stride": 1,
        "shift_type": "roll",
        "multi_query": True,
        "num_labels": num_labels,
    }


IMAGENET_SMALL = {
    "depths": [2, 2, 10],
    "hidden_sizes": [64, 192, 384],
    "num_attention_heads": [2, 6, 12],
    "patch_size": 4,
    "patch_stride": 4,
    "patch_padding": 0,
    "num_labels": 1000,
}
VARIANTS = {
    "imagenet_tiny": {"num_labels": 1000},
    "imagenet_small": IMAGENET_SMALL,
    "cifar_tiny": cifar(192, 4),
    "cifar_small": cifar(384, 6, num_labels=100),
    "cifar_base": cifar(768, 12, depths=(3, 3, 3, 3)),
}

SHIFTS = {10: "pad", 18: "roll"}  # {number of shifted images: our type}

CIFAR10 = ([0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616])
CIFAR100 = ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761])


def model_class(fields: dict) -> type[LocallySagForImageClassification]:
    return LocallySagForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Join the convolutions of all shifts to one; move each reduction to the stage that it begins."""
    prepared = {re.sub(r"^layers\.(\d+)\.1\.", stage_after, key): tensor for key, tensor in tensors.items()}
    projections = re.compile(r"to_patch_embedding\.projections\.(\d+)\.(\w+)")
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for key in list(prepared):
        if match := projections.fullmatch(key):
            parts.setdefault(match[2], {})[int(match[1])] = prepared.pop(key)
    return prepared | {f"to_patch_embedding.{name}": joined(name, by_shift) for name, by_shift in parts.items()}


def stage_after(match: re.Match) -> str:
    return f"layers.{int(match[1]) + 1}.reduction."


def joined(name: str, by_shift: dict[int, torch.Tensor]) -> torch.Tensor:
    """Return the tensors of all shifts joined along axis 0; ValueError if their shapes differ."""
    tensors = [by_shift[shift] for shift in sorted(by_shift)]
    if len({tensor.shape for tensor in tensors}) > 1 or tensors[0].ndim == 0:
        shapes = sorted({tuple(tensor.shape) for tensor in tensors})
        raise ValueError(
            f"the checkpoint does not fit: to_patch_embedding.projections.0.{name} and those "
            f"of the other shifts differ in shape: {shapes}"
        )
    return torch.cat(tensors)


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    stages = [f"layers.{stage}.0." for stage in range(count(tensors, "layers.") or 0)]
    tables = [f"{stage}pos_emb" for stage in stages]
    widths = whole([size(tensors, table, -1) for table in tables])
    first = f"{stages[0] if stages else ''}layers.0."
    key_value = size(tensors, f"{first}0.Wkv_even.weight", 0, 2)
    return found(
        depths=whole([count(tensors, f"{stage}layers.") for stage in stages]),
        hidden_sizes=widths,
        num_channels=size(tensors, "to_patch_embedding.weight", 1, 4),
        patch_size=size(tensors, "to_patch_embedding.weight", 2, 4),
        shift_type=SHIFTS.get(size(tensors, tables[0], 0, 3)) if tables else None,
        multi_query=key_value < 2 * widths[0] if key_value and widths and has_heads(fields) else None,
        mlp_ratio=ratio(size(tensors, f"{first}1.fc1.weight", 0, 2), widths[0] if widths else None),
        qkv_bias=f"{first}0.Wkv_even.bias" in tensors if key_value else None,
        num_labels=num_labels(tensors, "mlp_head.bias"),
    )


def has_heads(fields: dict) -> bool:
    """Return whether the first stage has several heads; with one head, sharing keys and values makes no difference."""
    return fields.get("num_attention_heads", LocallySagConfig.num_attention_heads)[0] > 1


def transforms(config: LocallySagConfig) -> list:
    renamings = {
        r"^to_patch_embedding\.": "model.embeddings.projection.",
        r"^layers\.(\d+)\.": r"model.stages.\1.",
        r"\.reduction\.conv\.": ".downsampling.0.",
        r"\.reduction\.norm\.": ".downsampling.1.",
        r"^(model\.stages\.\d+)\.0\.": r"\1.",
        r"\.pos_emb$": ".position_embeddings",
        r"\.norm1\.": ".attention_norm.",
        r"\.norm2\.": ".mlp_norm.",
        r"\.0\.Wq_even\.": ".attention.query.",
        r"\.0\.Wkv_even\.": ".attention.key_value.",
        r"\.0\.Wq_odd\.": ".attention.query_odd.",
        r"\.0\.Wkv_odd\.": ".attention.key_value_odd.",
        r"\.0\.proj\.": ".attention.projection.",
        r"\.1\.fc1\.": ".mlp.up.",
        r"\.1\.fc2\.": ".mlp.down.",
        r"^norm\.": "model.norm.",
        r"^mlp_head\.": "classifier.",
    }
    odd, fused = ["attention.query_odd.{}", "attention.key_value_odd.{}"], "attention.qkv.{}"
    return [
        *(WeightRenaming(old, new) for old, new in renamings.items()),
        *(
            WeightConverter([source.format(name) for source in odd], fused.format(name), [Concatenate(0)])
            for name in ("weight", "bias")
        ),
    ]


def processor(variant: str, config: LocallySagConfig) -> dict:
    """Return the preprocessing of datasets.py: ImageNet resized to 256 / 224 and cropped, CIFAR unchanged."""
    if variant.startswith("imagenet"):
        return resize_and_crop(config.image_size, 0.875)
    return resize_and_crop(config.image_size, 1.0, *(CIFAR100 if config.num_labels == 100 else CIFAR10))
