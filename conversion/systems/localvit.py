"""Checkpoints of ofsoundof/LocalViT: DeiT, PVT, Swin, T2T and TNT with a local feed-forward instead of the MLP.

LocalViT is no architecture of its own here: every variant is a model of its host (DeiT, ...), whose conversion maps
all other keys. Variants have the names of the original's factory functions (models/localvit*.py).
"""

import re
from collections.abc import Container
from types import ModuleType

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightRenaming

from hf_vits.configuration import LocalityConfig

from ..shared.inference import found, ratio, size, whole
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import vit_fields
from . import deit, pvt, swin, t2t, tnt

# {field that only this host's configuration has: conversion of the host}; DeiT if there is no such field.
HOSTS = {"sequence_reduction_ratios": pvt, "window_size": swin, "pixel_hidden_size": tnt, "token_layer": t2t}

LOCAL = {"feed_forward": "locality", "drop_path_rate": 0.1, "num_labels": 1000}
TINY, SMALL = vit_fields(192, 12, 4), vit_fields(384, 12, 8)

VARIANTS = {
    "localvit_tiny_mlp6_act1": {
        **TINY,
        "intermediate_size": 6 * 192,
        "locality_act": "relu6",
        "channel_attention": "none",
        **LOCAL,
    },
    "localvit_tiny_mlp4_act3_r4": {**TINY, "squeeze_size": 192, **LOCAL},
    "localvit_tiny_mlp4_act3_r192": {**TINY, "squeeze_size": 4, **LOCAL},
    "localvit_small_mlp4_act3_r384": {**SMALL, "squeeze_size": 4, **LOCAL},
    "localvit_pvt_tiny": {"sequence_reduction_ratios": [8, 4, 2, 1], "squeeze_sizes": [8, 8, 4, 4], **LOCAL},
    "localvit_tnt_t_patch16_224": {**tnt.VARIANTS["tnt_t_patch16_224"], "squeeze_size": 4, **LOCAL},
    "localvit_tnt_s_patch16_224": {**tnt.VARIANTS["tnt_s_patch16_224"], "squeeze_size": 4, **LOCAL},
    "localvit_T2t_conv7": {"token_layer": "performer", "squeeze_size": 4, **LOCAL},
    "localvit_swin_tiny_patch4_window7_224": {"window_size": 7, "squeeze_sizes": [16] * 4, **LOCAL},
}


def host(fields: Container[str]) -> ModuleType:
    """Return the conversion module of the host whose configuration has these fields."""
    return next((module for name, module in HOSTS.items() if name in fields), deit)


def model_class(fields: dict) -> type[PreTrainedModel]:
    return host(fields).model_class(fields)


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the host's tensors, with the linear layers of squeeze-and-excitation as 1x1 convolutions."""
    tensors = host(fields).prepare(tensors, fields)
    linear = (".fc.0.weight", ".fc.2.weight")
    return {key: value[..., None, None] if key.endswith(linear) else value for key, value in tensors.items()}


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    return host(fields).infer(tensors, fields) | infer_locality(tensors, fields)


def infer_locality(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return widths and options of the local feed-forward; its activation leaves no trace in the tensors."""
    layers = first_layers(tensors)
    squeezed = whole(
        [size(tensors, f"{layer}6.fc.0.weight") or size(tensors, f"{layer}3.fc.0.weight") for layer in layers]
    )
    widths = whole([size(tensors, f"{layer}0.weight", 0, 4) for layer in layers])
    if widths is None:
        return {}
    inferred = {"depthwise_convolution": size(tensors, f"{layers[0]}3.weight", 2) == 3}
    place = f"{layers[0]}{6 if inferred['depthwise_convolution'] else 3}."
    if f"{place}fc.0.weight" in tensors:
        inferred["channel_attention"] = "squeeze_excitation"
    elif f"{place}conv.weight" not in tensors:
        inferred["channel_attention"] = "none"
    elif not fields.get("channel_attention", "").startswith("efficient"):
        inferred["channel_attention"] = "efficient"
    hosted = host(fields)
    if hosted in (pvt, swin):
        over = [size(tensors, f"{layer}0.weight", 1, 4) for layer in layers]
        ratios = [ratio(*pair) for pair in zip(widths, over, strict=True)]
        inferred |= {"mlp_ratios": ratios} if hosted is pvt else {"mlp_ratio": ratios[0]}
        return inferred | found(squeeze_sizes=squeezed)
    return inferred | {"intermediate_size": widths[0]} | found(squeeze_size=squeezed[0] if squeezed else None)


def first_layers(tensors: dict[str, torch.Tensor]) -> list[str]:
    """Return what keys of the feed-forward begin with, in the first layer of the model or of each stage."""
    pattern = re.compile(r"((?:blocks|block\d+|layers\.\d+\.blocks)\.0\.conv\.conv\.)0\.weight")
    return sorted(match[1] for key in tensors if (match := pattern.fullmatch(key)))


def transforms(config: LocalityConfig) -> list:
    # T2T's token layers have no channel attention, and a norm that the original never calls.
    token_layer = r"(tokens_to_token\.attention\d)"
    renamings = {rf"{token_layer}\.norm2\.": r"\1.unused_norm."}
    for old, new in convolutions(config, "none").items():
        renamings[rf"{token_layer}\.conv\.conv\.{old}\."] = rf"\1.feed_forward.{new}."
    for old, new in convolutions(config, config.channel_attention).items():
        renamings[rf"\.conv\.conv\.{old}\."] = f".feed_forward.{new}."
    renamings[r"^blocks\.(\d+)\.feed_forward\."] = r"model.layers.\1.feed_forward."
    return [
        *(WeightRenaming(old, new) for old, new in renamings.items()),
        *host(config.to_dict()).transforms(config),
    ]


def convolutions(config: LocalityConfig, channel_attention: str) -> dict[str, str]:
    """Return {index in the original's nn.Sequential, as a pattern: our name}; activations have indices too."""
    names, place = {}, 0
    for name in ["expansion", "depthwise"] if config.depthwise_convolution else ["expansion"]:
        names |= {f"{place}": f"{name}.0", f"{place + 1}": f"{name}.1"}
        place += 3
    if channel_attention == "squeeze_excitation":
        names |= {rf"{place}\.fc\.0": "channel_attention.fc1", rf"{place}\.fc\.2": "channel_attention.fc2"}
    elif channel_attention != "none":
        names[rf"{place}\.conv"] = "channel_attention.convolution"
    place += channel_attention != "none"
    return names | {f"{place}": "projection.0", f"{place + 1}": "projection.1"}


def processor(variant: str, config: LocalityConfig) -> dict:
    """Return the preprocessing of datasets.py, `build_transform`: short side to 256 / 224 of the size, centre crop."""
    return resize_and_crop(config.image_size, 0.875)
