"""Checkpoints of IBM/RegionViT: image classifiers, and the backbones of its detectors.

The windows are read from the file. For fine-tuning with others, `convert(..., window_size=12, image_size=384)`
resizes the kernel of the regional tokens and the relative position biases as the original's
tools/convert_cls_model_to_diff_ws.py does. A detector's checkpoint converts to a `RegionViTBackbone` with the feature
maps of all stages; its neck and heads are left out.
"""

import re
from math import isqrt

import torch
from PIL.Image import Resampling
from torch import nn
from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming

from hf_vits.models.regionvit.configuration_regionvit import RegionViTConfig
from hf_vits.models.regionvit.modeling_regionvit import RegionViTBackbone, RegionViTForImageClassification

from ..shared.inference import count, found, has_bias, num_labels, ratio, size, whole
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import BLOCK

TINY = {"num_labels": 1000}
SMALL = {"hidden_sizes": [96, 192, 384, 768], "num_attention_heads": [3, 6, 12, 24], "num_labels": 1000}
MEDIUM = {**SMALL, "depths": [2, 2, 14, 2], "num_conv_layers": 1}
BASE = {**MEDIUM, "hidden_sizes": [128, 256, 512, 1024], "num_attention_heads": [4, 8, 16, 32]}
PLUS = {"window_size": 14}
PEG = {**PLUS, "use_conv_position_embedding": True}

VARIANTS = {
    "regionvit_tiny_224": TINY,
    "regionvit_tiny_w14_224": {**TINY, **PLUS},
    "regionvit_small_224": SMALL,
    "regionvit_small_w14_224": {**SMALL, **PLUS},
    "regionvit_small_w14_peg_224": {**SMALL, **PEG},
    "regionvit_medium_224": MEDIUM,
    "regionvit_medium_w14_224": {**MEDIUM, **PLUS},
    "regionvit_base_224": BASE,
    "regionvit_base_w14_224": {**BASE, **PLUS},
    "regionvit_base_w14_peg_224": {**BASE, **PEG},
}

DETECTOR = "backbone.bottom_up.model."


def model_class(fields: dict) -> type[RegionViTForImageClassification] | type[RegionViTBackbone]:
    return RegionViTBackbone if "out_features" in fields else RegionViTForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the backbone's tensors: layers counted from 0, norms as vectors, shared modules once."""
    if any(key.startswith(DETECTOR) for key in tensors):
        tensors = {key.removeprefix(DETECTOR): value for key, value in tensors.items() if key.startswith(DETECTOR)}
    prepared = {}
    for key, tensor in tensors.items():
        twin = tensors.get(key.replace(".proj_cls.", ".proj."))
        if ".proj_cls." in key and twin is not None and torch.equal(twin, tensor):
            continue  # one projection for regional and local tokens, listed twice
        if tensor.ndim == 4 and tensor.shape[0] == tensor.shape[2] == tensor.shape[3] == 1:
            tensor = tensor.flatten()  # norms over the channels of a feature map
        prepared[re.sub(r"(?<=\.block\.)\d+", lambda number: name_of_block(int(number[0])), key)] = tensor
    return prepared


def name_of_block(number: int) -> str:
    """Return our name for a block of a stage: block 0 is the downsampling, the layers follow."""
    return "downsampling" if number == 0 else str(number - 1)


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = infer_sizes(tensors, fields)
    inferred["num_labels"] = num_labels(tensors)
    if "norm.weight" not in tensors and not inferred["num_labels"]:  # a detector's file
        inferred |= {"use_stage_norm": "norm0.weight" in tensors}
        inferred |= {"out_features": RegionViTConfig(**fields | inferred).stage_names[1:]}
    return inferred


def infer_sizes(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    stages = [f"layers.{stage}.block." for stage in range(count(tensors, "layers.") or 0)]
    widths = whole([size(tensors, f"{stage}0.norm0.weight", 0, 1) for stage in stages])
    convolutions = {index for index in range(8) if f"patch_embed.proj.{index}.weight" in tensors}
    tables = whole([size(tensors, f"{stage}0.attn.rel_pos", 1, 2) for stage in stages]) or []
    windows = [(isqrt(positions) + 1) // 2 for positions in tables]
    num_conv_layers = 3 if len(convolutions) > 1 else 1 if "patch_embed.proj.weight" in tensors else None
    overlapping = size(tensors, "patch_embed.proj.weight", 3, 4)
    mlp, qkv = size(tensors, "layers.0.block.0.mlp.fc1.weight", 0, 2), "layers.0.block.0.attn.qkv."
    return found(
        depths=whole([count(tensors, stage) for stage in stages]),
        hidden_sizes=widths,
        num_attention_heads=whole([size(tensors, f"{stage}0.attn.rel_pos", 0, 2) for stage in stages]),
        patch_size=4 if num_conv_layers == 3 else overlapping and max(1, overlapping // 2),
        window_size=windows[0] if len(set(windows)) == 1 else windows or None,
        num_channels=size(tensors, "cls_token.proj.weight", 1, 4),
        mlp_ratio=ratio(mlp, widths[0] if widths else None),
        num_conv_layers=num_conv_layers,
        use_conv_position_embedding="layers.0.peg.weight" in tensors if stages else None,
        qkv_bias=has_bias(tensors, qkv),
    )


class FitRegionalKernel(ConversionOps):
    """Resize the kernel of the convolution that embeds regional tokens to another region size.

    Args:
        region_size: side of the region in pixels.
    """

    def __init__(self, region_size: int):
        self.region_size = region_size

    def convert(self, input_dict, source_patterns, target_patterns, **kwargs):
        (kernel,) = next(iter(input_dict.values()))
        return {target_patterns[0]: resize(kernel, self.region_size)}


class FitBiasTable(ConversionOps):
    """Convert the original's relative position bias (heads, positions) to the order of `RelativePositionBias`.

    The table is resized first to the window of its stage in the model.
    """

    def convert(self, input_dict, source_patterns, target_patterns, full_layer_name, model, **kwargs):
        (table,) = next(iter(input_dict.values()))
        expected = model.state_dict().get(full_layer_name)
        if expected is not None:
            table = resize_table(table, (isqrt(len(expected)) + 1) // 2)
        return {target_patterns[0]: unwrap_table(table)}


def resize(grid: torch.Tensor, side: int) -> torch.Tensor:
    """Resize (out, in, height, width) to (out, in, side, side), bicubic; tensors of other ranks are unchanged."""
    if grid.ndim != 4 or not grid.numel() or grid.shape[2:] == (side, side):
        return grid
    return nn.functional.interpolate(grid.float(), size=(side, side), mode="bicubic")


def resize_table(table: torch.Tensor, window: int) -> torch.Tensor:
    """Resize a table (heads, side * side) to another window, in the original's order of positions."""
    side = round(table.shape[-1] ** 0.5) if table.ndim == 2 else 0
    if side == 0 or side**2 != table.shape[1]:
        return table
    return resize(table.unflatten(1, (side, side))[None], 2 * window - 1)[0].flatten(1)


def unwrap_table(table: torch.Tensor) -> torch.Tensor:
    """Reorder a table (heads, side * side) of the original to ours, (side * side, heads).

    For a key d rows below its query (or d columns to the right), the original's row (column) is
    (d + window // 2) % side. Ours is window - 1 - d: row 0 has the largest distance d.
    """
    side = round(table.shape[-1] ** 0.5) if table.ndim == 2 else 0
    if side == 0 or side**2 != table.shape[1]:
        return table
    window = (side + 1) // 2
    places = (torch.arange(window - 1, -window, -1) + window // 2) % side
    return table.unflatten(1, (side, side))[:, places[:, None], places].flatten(1).T.contiguous()


def transforms(config: RegionViTConfig) -> list:
    renamings = {
        r"^patch_embed\.proj\.": "model.embeddings.local_projection.",
        r"^cls_token\.proj\.": "model.embeddings.regional_projection.",
        r"^layers\.(\d+)\.": r"model.stages.\1.",
        r"\.block\.downsampling\.proj\.": ".downsampling.",
        r"\.block\.": ".layers.",
        r"\.peg\.": ".position_embedding.",
        r"\.norm0\.": ".regional_norm.",
        **BLOCK,
        r"\.norm1\.": ".local_norm.",
        r"\.rel_pos$": ".position_bias.table",
        r"^norm(\d+)\.": r"model.stages.\1.norm.",
        r"^norm\.": "model.norm.",
        r"^head\.": "classifier.",
    }
    kernel, table = "embeddings.regional_projection.weight", "attention.position_bias.table"
    return [
        *(WeightRenaming(old, new) for old, new in renamings.items()),
        WeightConverter(kernel, kernel, [FitRegionalKernel(config.patch_size * config.window_sizes[0])]),
        WeightConverter(table, table, [FitBiasTable()]),
    ]


def processor(variant: str, config: RegionViTConfig) -> dict:
    """Return the evaluation preprocessing.

    Classifiers (datasets.py, `build_transform`): short side to 256 / 224 of the size, bicubic; centre crop. Detectors
    (detection/configs): short side to 672, long side at most 1120; mean and standard deviation are in BGR order but
    applied to RGB, as in the original's training.
    """
    if not config.use_stage_norm:
        return resize_and_crop(config.image_size, 0.875)
    return {
        "size": {"shortest_edge": 672, "longest_edge": 1120},
        "resample": Resampling.BILINEAR,
        "do_center_crop": False,
        "image_mean": [value / 255 for value in (103.53, 116.28, 123.675)],
        "image_std": [value / 255 for value in (57.375, 57.12, 58.395)],
    }
