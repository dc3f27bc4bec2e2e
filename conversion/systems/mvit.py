"""Checkpoints of MViT: facebookresearch/mvit, SlowFast, and detectron2's detectors.

Read from the file: how queries and keys are pooled, where channels are widened, and the size of the input. A
detector's file converts to an `MvitBackbone` with windows and the feature maps of all stages; its neck and heads are
left out. For another `image_size` or `num_frames`, position tables are resized as SlowFast does when it loads a file.
"""

import re
from itertools import accumulate, groupby

import torch
from PIL.Image import Resampling
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming

from hf_vits.configuration import pair
from hf_vits.layers.position import interpolate_sequence
from hf_vits.models.mvit.configuration_mvit import MvitConfig
from hf_vits.models.mvit.modeling_mvit import MvitBackbone, MvitForImageClassification, MvitForVideoClassification
from hf_vits.processing.video import VitsVideoProcessor

from ..shared.inference import count, found, has_bias, num_labels, ratio, size, whole
from ..shared.preprocessing import IMAGENET_MEAN, IMAGENET_STD, resize_and_crop, slowfast_clips
from ..shared.timm_vit import BLOCK

TINY = {"depths": [1, 2, 5, 2]}
SMALL = {"depths": [1, 2, 11, 2]}
BASE = {"depths": [2, 3, 16, 3]}
LARGE = {"depths": [2, 6, 36, 4], "hidden_sizes": [144, 288, 576, 1152], "num_attention_heads": [2, 4, 8, 16]}
HUGE = {"depths": [4, 8, 60, 8], "hidden_sizes": [192, 384, 768, 1536], "num_attention_heads": [3, 6, 12, 24]}

IN1K = {"num_labels": 1000}
IN21K = {"use_class_token": True, "num_labels": 19168}

# MViT version 1.
V1 = {
    "use_class_token": True,
    "position_embedding_type": "absolute",
    "expand_in_attention": False,
    "pool_all_queries": False,
    "residual_pooling": False,
    "initializer": "slowfast",
}
# Common fields of SlowFast's video models.
CLIPS = {
    "patch_size": [3, 7, 7],
    "patch_stride": [2, 4, 4],
    "pooling_kernel_size": [3, 3, 3],
    "key_value_stride": 8,
    "use_class_token": True,
    "initializer": "slowfast",
    "classifier_dropout_prob": 0.5,
}
V1_16X4 = {**CLIPS, **V1, **SMALL, "num_frames": 16, "drop_path_rate": 0.2}
V1_32X3 = {**CLIPS, **V1, **BASE, "num_frames": 32, "drop_path_rate": 0.3, "pooling_kernel_size": None}
V2_S_16X4 = {**CLIPS, **SMALL, "num_frames": 16, "drop_path_rate": 0.2}
V2_B_32X3 = {**CLIPS, **BASE, "num_frames": 32, "drop_path_rate": 0.3}
V2_L_40X3 = {**CLIPS, **LARGE, "num_frames": 40, "image_size": 312, "drop_path_rate": 0.75}
K400, K600, SSV2 = {"num_labels": 400}, {"num_labels": 600}, {"num_labels": 174}

VARIANTS = {
    "mvitv2_t_in1k": {**TINY, **IN1K},
    "mvitv2_s_in1k": {**SMALL, **IN1K},
    "mvitv2_b_in1k": {**BASE, "drop_path_rate": 0.3, **IN1K},
    "mvitv2_l_in1k": {**LARGE, "expand_in_attention": False, "drop_path_rate": 0.5, **IN1K},
    "mvitv2_b_in21k": {**BASE, "drop_path_rate": 0.3, **IN21K},
    "mvitv2_l_in21k": {**LARGE, "drop_path_rate": 0.5, **IN21K},
    "mvitv2_h_in21k": {**HUGE, "drop_path_rate": 0.5, **IN21K},
    "mvit_b_16_in1k": {**V1, **SMALL, **IN1K},
    "mvit_b_16x4_k400": {**V1_16X4, **K400},
    # Its last stage does not pool keys and values.
    "mvit_b_16x4_k400_first_release": {**V1_16X4, "pool_all_keys": False, "pooling_norm_eps": 1e-5, **K400},
    "mvit_b_32x3_k400": {**V1_32X3, **K400},
    "mvit_b_32x3_k600": {**V1_32X3, **K600},
    "mvitv2_s_16x4_k400": {**V2_S_16X4, **K400},
    "mvitv2_b_32x3_k400": {**V2_B_32X3, **K400},
    "mvitv2_l_40x3_k400": {**V2_L_40X3, **K400},
    "mvitv2_s_16x4_ssv2": {**V2_S_16X4, **SSV2, "drop_path_rate": 0.4},
    "mvitv2_b_32x3_ssv2": {**V2_B_32X3, **SSV2, "drop_path_rate": 0.4},
    "mvitv2_l_40x3_ssv2": {**V2_L_40X3, **SSV2},
}

DETECTOR = "backbone.bottom_up."
# Fields of the detectors in detectron2's projects/MViTv2, whatever classifier they were initialised from.
DETECTION = {
    "use_class_token": False,
    "window_size": 56,
    "use_stage_norm": True,
    "initializer": "detectron2",
    "num_labels": 0,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
DETECTOR_STAGE_NORM = "scale2_norm.weight"


def model_class(fields: dict) -> type[MvitBackbone | MvitForImageClassification | MvitForVideoClassification]:
    if "out_features" in fields:
        return MvitBackbone
    return MvitForImageClassification if fields.get("num_frames") is None else MvitForVideoClassification


def infer_original(tensors: dict[str, torch.Tensor]) -> dict:
    """Return whether pooling comes before the projections, where the file shows it.

    It is not before fused projections. Separate ones may come before or after. Where pooling comes first, its channels
    are those of a layer's input: fewer in the first layer of a stage, which widens, than in the next one.
    """
    if any(key.endswith(".attn.qkv.weight") for key in tensors):
        return {"pool_first": None}
    blocks = [f"blocks.{index}.attn." for index in range(count(tensors, "blocks.") or 0)]
    inputs, outputs = (whole([size(tensors, f"{block}q.weight", axis, 2) for block in blocks]) for axis in (1, 0))
    pooled = whole([size(tensors, f"{block}pool_k.weight") for block in blocks])
    if inputs is None or outputs is None or pooled is None:
        return {}
    widths = list(zip(inputs, outputs, strict=True))
    wider = [index for index, (before, after) in enumerate(widths[:-1]) if after > before]
    heads = [size(tensors, f"{block}rel_pos_h", 1, 2) for block in blocks]
    if all(channels == before for channels, (before, _) in zip(pooled, widths, strict=True)) and (
        wider or (None not in heads and heads != pooled)
    ):
        return {"pool_first": "channels"}
    if not wider:
        return {}
    return {"pool_first": "heads" if any(pooled[index] < pooled[index + 1] for index in wider) else None}


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the backbone's tensors under SlowFast's keys; image kernels get two spatial axes.

    Projections are fused to `qkv`, unless pooling comes first.
    """
    if any(key.startswith(DETECTOR) for key in tensors):
        tensors = {key.removeprefix(DETECTOR): value for key, value in tensors.items() if key.startswith(DETECTOR)}
    prepared = tensors if fields.get("pool_first") else fuse_projections(tensors)
    if fields.get("num_frames") is None:
        flat = {key: value.squeeze(2) for key, value in prepared.items() if value.ndim == 5 and value.shape[2] == 1}
        prepared |= flat
    if not fields.get("use_class_token"):
        prepared.pop("cls_token", None)  # a released file has one that its network does not use
    return prepared


def fuse_projections(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Join separate projections to queries, keys and values to one `qkv`."""
    fused = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(r"(.*\.attn\.)([qkv])(\.weight|\.bias)", key)
        parts = [tensors.get(f"{match[1]}{name}{match[3]}") for name in "qkv"] if match else [None]
        if any(part is None or part.shape != tensor.shape for part in parts):
            fused[key] = tensor
        elif match[2] == "q":
            fused[f"{match[1]}qkv{match[3]}"] = torch.cat(parts)
    return fused


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    stages = infer_stages(tensors, fields.get("pool_first"))
    config = MvitConfig(**fields | stages)
    last = sum(config.depths) - 1
    inferred = {
        **stages,
        "pool_all_queries": "blocks.0.attn.pool_q.weight" in tensors,
        "pool_all_keys": f"blocks.{last}.attn.pool_k.weight" in tensors,
        **infer_widening(tensors, config),
        **infer_sizes(tensors, config),
    }
    if DETECTOR_STAGE_NORM in tensors:
        return inferred | DETECTION
    return inferred | {"num_labels": num_labels(tensors, "head.projection.bias")}


def attention_width(tensors: dict[str, torch.Tensor], block: str, axis: int = 0) -> int | None:
    """Return the output channels of a block's queries, with axis 1 the input channels."""
    fused = size(tensors, f"{block}attn.qkv.weight", axis, 2)
    if fused is None:
        return size(tensors, f"{block}attn.q.weight", axis, 2)
    return fused // 3 if axis == 0 else fused


def head_size(tensors: dict[str, torch.Tensor], block: str, pool_first: str | None) -> int | None:
    """Return the channels of a head, by its relative positions or else by its pooling."""
    positions = size(tensors, f"{block}attn.rel_pos_h", 1, 2)
    if positions is not None or pool_first == "channels":
        return positions
    pooled = size(tensors, f"{block}attn.pool_k.weight", 0)
    before, after = (attention_width(tensors, block, axis) for axis in (1, 0))
    if pool_first is None or pooled is None or before is None or after is None:
        return pooled
    return pooled * after // before


def infer_stages(tensors: dict[str, torch.Tensor], pool_first: str | None = None) -> dict:
    """Return the sizes of stages, patches and MLPs; a stage begins where attention gets wider."""
    blocks = [f"blocks.{index}." for index in range(count(tensors, "blocks.") or 0)]
    widths = whole([attention_width(tensors, block) for block in blocks])
    patch = tensors.get("patch_embed.proj.weight")
    kernel = list(patch.shape[2:]) if patch is not None and patch.ndim > 3 else None
    is_relative, is_absolute = (any(part in key for key in tensors) for part in (".attn.rel_pos_", "pos_embed"))
    mlp = size(tensors, "blocks.0.mlp.fc1.weight", 0, 2), size(tensors, "blocks.0.mlp.fc1.weight", 1, 2)
    inferred = found(
        patch_size=kernel,
        num_channels=size(tensors, "patch_embed.proj.weight", 1),
        mlp_ratio=ratio(*mlp),
        position_embedding_type="relative" if is_relative else "absolute" if is_absolute else None,
        qkv_bias=has_bias(tensors, "blocks.0.attn.q." if pool_first else "blocks.0.attn.qkv."),
    )
    if not widths:
        return inferred
    groups = [(width, len(list(group))) for width, group in groupby(widths)]
    starts = accumulate([0, *(depth for _, depth in groups[:-1])])
    per_head = [head_size(tensors, f"blocks.{start}.", pool_first) for start in starts]
    if None not in per_head:
        inferred["num_attention_heads"] = [width // own for (width, _), own in zip(groups, per_head, strict=True)]
    return inferred | {"hidden_sizes": [width for width, _ in groups], "depths": [depth for _, depth in groups]}


def infer_widening(tensors: dict[str, torch.Tensor], config: MvitConfig) -> dict:
    """Return `expand_in_attention`, by whether attention widens in the first layer of the second stage."""
    before, after = (attention_width(tensors, f"blocks.{config.depths[0]}.", axis) for axis in (1, 0))
    return {} if before is None else {"expand_in_attention": before != after}


def infer_sizes(tensors: dict[str, torch.Tensor], config: MvitConfig) -> dict:
    """Return the input sizes of the file's position tables, where the configuration has others."""
    inferred = {}
    side, frames = table_side(tensors), table_frames(tensors)
    stride, frame_stride = config.patch_stride[-1], config.patch_stride[0]
    if side and any(size // stride != side for size in pair(config.image_size)):
        inferred["image_size"] = side * stride
    if frames and config.num_frames is not None and config.num_frames // frame_stride != frames:
        inferred["num_frames"] = frames * frame_stride
    return inferred


def table_side(tensors: dict[str, torch.Tensor]) -> int | None:
    """Return the number of tokens along a side of the image, by the position tables."""
    if "blocks.0.attn.rel_pos_h" in tensors:
        return (len(tensors["blocks.0.attn.rel_pos_h"]) + 1) // 2
    for key, num_prefix in (("pos_embed", 1), ("pos_embed_spatial", 0)):
        if key in tensors and tensors[key].ndim == 3:
            return round(max(tensors[key].shape[1] - num_prefix, 0) ** 0.5)
    return None


def table_frames(tensors: dict[str, torch.Tensor]) -> int | None:
    """Return the number of tokens along time, by the position tables."""
    if "blocks.0.attn.rel_pos_t" in tensors:
        return (len(tensors["blocks.0.attn.rel_pos_t"]) + 1) // 2
    table = tensors.get("pos_embed_temporal")
    return table.shape[1] if table is not None and table.ndim == 3 else None


class FitTable(ConversionOps):
    """Resize a position table (..., positions, channels) linearly to the number of positions of the model."""

    def convert(self, input_dict, source_patterns, target_patterns, full_layer_name, model, **kwargs):
        (table,) = next(iter(input_dict.values()))
        expected = model.state_dict().get(full_layer_name)
        if expected is not None and table.ndim == expected.ndim and table.numel():
            table = interpolate_sequence(table.view(1, *table.shape[-2:]), expected.shape[-2])
            table = table.view(expected.shape[:-2] + table.shape[-2:])
        return {target_patterns[0]: table}


def transforms(config: MvitConfig) -> list:
    position = "model.embeddings.position_embedding."
    renamings = {
        r"^patch_embed\.proj\.": "model.embeddings.projection.",
        r"^cls_token$": "model.embeddings.class_token",
        r"^pos_embed$": f"{position}table",
        r"^pos_embed_spatial$": f"{position}spatial.table",
        r"^pos_embed_temporal$": f"{position}temporal",
        r"^pos_embed_class$": f"{position}prefix",
    }
    places = ((stage, layer) for stage, depth in enumerate(config.depths) for layer in range(depth))
    for block, (stage, layer) in enumerate(places):
        shortcut = "attention_shortcut" if config.expand_in_attention else "mlp_shortcut"
        renamings[rf"^blocks\.{block}\.proj\."] = f"model.stages.{stage}.layers.{layer}.{shortcut}."
        renamings[rf"^blocks\.{block}\."] = f"model.stages.{stage}.layers.{layer}."
    renamings |= {
        **BLOCK,
        r"^norm\.": "model.norm.",
        r"^head\.projection\.": "classifier.",
    }
    for short, name in {"q": "query", "k": "key", "v": "value"}.items():
        renamings[rf"\.attention\.{short}\."] = f".attention.{name}."
        renamings[rf"\.pool_{short}\."] = f".{name}_pooling.convolution."
        renamings[rf"\.norm_{short}\."] = f".{name}_pooling.norm."
    for axis, short in enumerate("hw" if config.num_frames is None else "thw"):
        renamings[rf"\.rel_pos_{short}$"] = f".positions.tables.{axis}"
    for stage in range(len(config.depths)):
        renamings[rf"^scale{stage + 2}_norm\."] = f"stage_norms.{stage}."
    tables = ("attention.positions.tables", "position_embedding.temporal")
    return [
        *(WeightRenaming(old, new) for old, new in renamings.items()),
        *(WeightConverter(table, table, [FitTable()]) for table in tables),
    ]


def processor(variant: str, config: MvitConfig) -> dict | VitsVideoProcessor:
    """Return the originals' evaluation preprocessing.

    Images: short side to 256 / 224 of the size, bicubic; centre crop. Detectors: short side to 800, bilinear. Clips:
    short side to 256 / 224 of the size, or for the large model and Something-Something to the size; centre crop.
    """
    if config.num_frames is not None:
        large, segments = variant.startswith("mvitv2_l"), variant.endswith("ssv2")
        side = min(pair(config.image_size))
        return slowfast_clips(
            config.image_size,
            config.num_frames,
            sampling_rate=int(re.search(r"_\d+x(\d+)_", variant)[1]),
            short_side=side if large or segments else side * 256 // 224,
            segments=segments,
            **{"mean": IMAGENET_MEAN, "std": IMAGENET_STD} if large else {},
        )
    if config.window_size is None:
        return resize_and_crop(config.image_size, 0.875)
    return {
        "size": {"shortest_edge": 800, "longest_edge": 1333},
        "resample": Resampling.BILINEAR,
        "do_center_crop": False,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    }
