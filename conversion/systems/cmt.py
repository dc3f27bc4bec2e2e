"""Checkpoints of ggjy/CMT.pytorch.

For another `image_size` than the file's, the position biases are resized, as section 3.2 of the paper suggests.
"""

from math import isqrt

import torch
from transformers.core_model_loading import Concatenate, ConversionOps, WeightConverter, WeightRenaming

from hf_vits.layers.position import interpolate_positions
from hf_vits.models.cmt.configuration_cmt import CmtConfig
from hf_vits.models.cmt.modeling_cmt import CmtForImageClassification, grid_of

from ..shared.inference import count, found, num_labels, size, whole
from ..shared.preprocessing import resize_and_crop


def fields(image_size: int, stem_hidden_size: int, hidden_size: int, depths: list[int], **more) -> dict:
    """Return the fields of a variant whose stages have 1, 2, 4 and 8 times `hidden_size` channels."""
    return {
        "image_size": image_size,
        "stem_hidden_size": stem_hidden_size,
        "hidden_sizes": [hidden_size * 2**stage for stage in range(4)],
        "depths": depths,
        "num_labels": 1000,
        **more,
    }


VARIANTS = {
    "cmt_ti": fields(160, 16, 46, [2, 2, 10, 2]),
    "cmt_xs": fields(192, 16, 52, [3, 3, 12, 3], mlp_ratio=3.77),
    "cmt_s": fields(224, 32, 64, [3, 3, 16, 3], mlp_ratio=4),
    "cmt_b": fields(256, 38, 76, [4, 4, 20, 4], mlp_ratio=4, classifier_dropout_prob=0.3),
}


def model_class(fields: dict) -> type[CmtForImageClassification]:
    return CmtForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    stages = "abcd"
    widths = whole([size(tensors, f"patch_embed_{stage}.proj.weight", 0, 4) for stage in stages])
    mlps = whole([size(tensors, f"blocks_{stage}.0.mlp.conv1.0.weight", 0, 4) for stage in stages])
    expected = fields.get("mlp_ratio", CmtConfig.mlp_ratio)
    inferred = found(
        stem_hidden_size=size(tensors, "stem_conv1.weight", 0, 4),
        num_channels=size(tensors, "stem_conv1.weight", 1, 4),
        depths=whole([count(tensors, f"blocks_{stage}.") for stage in stages]),
        hidden_sizes=widths,
        num_attention_heads=whole([size(tensors, f"relative_pos_{stage}", 0, 3) for stage in stages]),
        sequence_reduction_ratios=[size(tensors, f"blocks_{stage}.0.attn.sr.0.weight", 2, 4) or 1 for stage in stages],
        mlp_ratio=common_ratio(mlps, widths, expected) if mlps and widths else None,
        pooler_hidden_size=size(tensors, "_fc.weight", 0, 4),
        num_labels=num_labels(tensors),
    )
    if num_positions := size(tensors, "relative_pos_a", 1, 3):
        inferred["image_size"] = 4 * isqrt(num_positions)
    return inferred


def common_ratio(widths: list[int], over: list[int], expected: int | float) -> int | float | None:
    """Return the ratio with int(ratio * over) = width for every stage: the expected one, or the roundest that fits."""
    rounded = (round(widths[-1] / over[-1], digits) for digits in range(1, 5))
    for value in (expected, widths[-1] // over[-1], *rounded):
        if [int(size * value) for size in over] == widths:
            return value
    return None


class FitPositionBias(ConversionOps):
    """Resize position biases (heads, queries, keys) of another square image, along queries and then along keys."""

    def __init__(self, query_grid: tuple[int, int], key_grid: tuple[int, int]):
        self.query_grid = query_grid
        self.key_grid = key_grid

    def convert(self, input_dict, source_patterns, target_patterns, **kwargs):
        (bias,) = next(iter(input_dict.values()))
        bias = fit_positions(bias, self.query_grid)
        return {target_patterns[0]: fit_positions(bias.transpose(1, 2), self.key_grid).transpose(1, 2)}

    @property
    def reverse_op(self) -> ConversionOps:
        return self


def fit_positions(bias: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return a bias (heads, positions, others) resized along positions to one row per cell of `grid`."""
    side = isqrt(bias.shape[1])
    return interpolate_positions(bias, (side, side), grid, "bicubic")


def transforms(config: CmtConfig) -> list:
    renamings = {
        r"^stem_conv1\.": "model.embeddings.stem.0.",
        r"^stem_norm1\.": "model.embeddings.stem.2.",
        r"^stem_conv2\.": "model.embeddings.stem.3.",
        r"^stem_norm2\.": "model.embeddings.stem.5.",
        r"^stem_conv3\.": "model.embeddings.stem.6.",
        r"^stem_norm3\.": "model.embeddings.stem.8.",
        r"^(patch_embed_.)\.proj\.": r"\1.projection.",
        r"\.attn\.proj\.": ".attention.projection.",
        r"\.attn\.q\.": ".attention.query.",
        r"\.attn\.sr\.": ".attention.reduction.",
        r"\.norm1\.": ".attention_norm.",
        r"\.norm2\.": ".feed_forward_norm.",
        r"\.mlp\.conv1\.": ".feed_forward.expansion.",
        r"\.mlp\.proj\.": ".feed_forward.depthwise.",
        r"\.mlp\.proj_bn\.": ".feed_forward.projection.1.",
        r"\.mlp\.conv2\.0\.": ".feed_forward.projection.2.",
        r"\.mlp\.conv2\.1\.": ".feed_forward.projection.3.",
        r"^(blocks_.\.\d+)\.proj\.": r"\1.local_perception.",
        r"^_fc\.": "model.pooler.projection.0.",
        r"^_bn\.": "model.pooler.projection.1.",
        r"^head\.": "classifier.",
    }
    converters = [WeightConverter([r"\.attn\.k\.", r"\.attn\.v\."], ".attention.key_value.", [Concatenate(0)])]
    for stage, letter in enumerate("abcd"):
        ours = f"model.stages.{stage}."
        renamings[rf"^blocks_{letter}\."] = f"{ours}layers."
        renamings[rf"^patch_embed_{letter}\."] = f"{ours}embeddings." if stage else "model.embeddings.patch_embedding."
        grids = (grid_of(config, stride) for stride in (config.query_stride(stage), config.key_stride(stage)))
        converters.append(
            WeightConverter(f"^relative_pos_{letter}$", f"{ours}position_bias", [FitPositionBias(*grids)])
        )
    return [*(WeightRenaming(old, new) for old, new in renamings.items()), *converters]


def processor(variant: str, config: CmtConfig) -> dict:
    """Return the preprocessing of datasets.py, `build_transform`: short side to 256 / 224 of the size, centre crop."""
    return resize_and_crop(config.image_size, 0.875)
