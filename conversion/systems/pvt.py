"""Checkpoints of whai362/PVT, first version; variants have the names of its factory functions (pvt.py)."""

from math import isqrt

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.pvt.configuration_pvt import PvtConfig
from hf_vits.models.pvt.modeling_pvt import PvtForImageClassification

from ..shared.inference import count, found, has_bias, num_labels, ratio, size, whole
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import FEED_FORWARD_BLOCK

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
