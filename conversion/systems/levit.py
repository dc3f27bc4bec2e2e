"""Checkpoints of facebookresearch/LeViT, and transformers' own Levit.

The original's levit_c.py is the same network with 1x1 convolutions for linear layers.
"""

from itertools import pairwise
from math import isqrt

import torch
from transformers import LevitConfig as TransformersLevitConfig
from transformers import LevitForImageClassification as TransformersLevitForImageClassification
from transformers import LevitForImageClassificationWithTeacher as TransformersLevitForImageClassificationWithTeacher
from transformers import LevitModel as TransformersLevitModel
from transformers.core_model_loading import WeightRenaming

from hf_vits.configuration import pair
from hf_vits.models.levit.configuration_levit import LevitConfig
from hf_vits.models.levit.modeling_levit import STEM_STRIDE, LevitForImageClassification, LevitModel, grid_of

from ..shared.inference import count, found, num_labels, ratio, size, whole
from ..shared.preprocessing import resize_and_crop
from ..shared.transformers_layout import (
    check_expressible,
    copy_fields,
    our_class,
    read_theirs,
    their_class,
    write_theirs,
)


def fields(hidden_sizes: list[int], num_attention_heads: list[int], depths: list[int], key_dim: int, **more) -> dict:
    return {
        "hidden_sizes": hidden_sizes,
        "num_attention_heads": num_attention_heads,
        "depths": depths,
        "key_dim": key_dim,
        "num_labels": 1000,
        **more,
    }


VARIANTS = {
    "LeViT_128S": fields([128, 256, 384], [4, 6, 8], [2, 3, 4], 16),
    "LeViT_128": fields([128, 256, 384], [4, 8, 12], [4, 4, 4], 16),
    "LeViT_192": fields([192, 288, 384], [3, 5, 6], [4, 4, 4], 32),
    "LeViT_256": fields([256, 384, 512], [4, 6, 8], [4, 4, 4], 32),
    "LeViT_384": fields([384, 512, 768], [6, 9, 12], [4, 4, 4], 32, drop_path_rate=0.1),
}


def model_class(fields: dict) -> type[LevitForImageClassification]:
    return LevitForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Flatten 1x1 convolutions to linear layers; drop index tables of position biases, which follow from the size."""
    return {
        key: tensor.flatten(1) if key.startswith("blocks.") and tensor.ndim == 4 else tensor
        for key, tensor in tensors.items()
        if not key.endswith(".attention_bias_idxs")
    }


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = infer_stages(tensors) | {
        "num_labels": num_labels(tensors, "head.l.bias"),
        "distilled": "head_dist.l.bias" in tensors,
    }
    if (biases := tensors.get("blocks.0.m.attention_biases")) is not None:
        side = inferred["image_size"] = STEM_STRIDE * isqrt(biases.shape[-1])
        wanted = pair(fields.get("image_size", side))
        if grid_of(*wanted, 0) != grid_of(side, side, 0):
            raise ValueError(
                f"the checkpoint has attention biases for image_size={side}, which cannot be resized to {wanted}: "
                "leave image_size out; the model takes smaller images as it is"
            )
    return inferred


def infer_stages(tensors: dict[str, torch.Tensor]) -> dict:
    """Return the sizes of the stages, which are separated by the attentions that downsample."""
    blocks = [f"blocks.{index}." for index in range(count(tensors, "blocks.") or 0)]
    shrinking = [block for block in blocks if f"{block}kv.c.weight" in tensors]
    bounds = [-1, *(blocks.index(block) for block in shrinking), len(blocks)]
    firsts = [f"blocks.{bounds[0] + 1}.m."] + [f"blocks.{bound + 2}.m." for bound in bounds[1:-1]]
    heads = whole([size(tensors, f"{first}attention_biases", 0, 2) for first in firsts])
    if not heads:
        return {}
    depths = [(end - start - 1) // 2 for start, end in pairwise(bounds)]
    values = whole([size(tensors, f"{first}proj.1.c.weight", 1, 2) for first in firsts])
    widths = [size(tensors, f"{first}qkv.c.weight", 1, 2) for first in firsts]
    qkv = whole([size(tensors, f"{first}qkv.c.weight", 0, 2) for first in firsts])
    inferred = found(depths=None if 0 in depths else depths, hidden_sizes=whole(widths), num_attention_heads=heads)
    inferred |= found(
        num_channels=size(tensors, "patch_embed.0.c.weight", 1, 4),
        mlp_ratio=ratio(size(tensors, "blocks.1.m.0.c.weight", 0, 2), widths[0]),
    )
    if qkv and values and all(every > part for every, part in zip(qkv, values, strict=True)):
        key_dims = [(every - part) // number // 2 for every, part, number in zip(qkv, values, heads, strict=True)]
        inferred["key_dim"] = key_dims if len(set(key_dims)) > 1 else key_dims[0]
        inferred["attention_ratio"] = ratio(values[0], heads[0] * key_dims[0])
        if shrinking and (shrunk := size(tensors, f"{shrinking[0]}proj.1.c.weight", 1, 2)):
            queries = size(tensors, f"{shrinking[0]}q.1.c.weight", 0, 2) or size(
                tensors, f"{shrinking[0]}q.c.weight", 0, 2
            )
            inferred |= found(downsampling_attention_ratio=ratio(shrunk, queries))
            key_dim = ratio(queries, size(tensors, f"{shrinking[0]}attention_biases", 0, 2))
            inferred["downsampling_key_dim"] = None if key_dim == key_dims[0] else key_dim
    return inferred


def transforms(config: LevitConfig) -> list:
    renamings = {f"^patch_embed\\.{2 * index}\\.": f"model.embeddings.projection.{index}." for index in range(4)}
    renamings |= {r"(projection\.\d)\.c\.": r"\1.0.", r"(projection\.\d)\.bn\.": r"\1.1."}
    for index, (place, is_residual) in enumerate(blocks(config)):
        renamings[rf"^blocks\.{index}\.m\." if is_residual else rf"^blocks\.{index}\."] = place
    renamings |= {
        r"\.attention_biases$": ".position_bias.table",
        r"\.mlp\.0\.": ".mlp.up.",
        r"\.mlp\.2\.": ".mlp.down.",
        r"\.kv\.": ".key_value.",
        r"\.q\.1\.": ".query.",
        r"\.proj\.1\.": ".projection.",
        r"^head\.": "classifier.",
        r"^head_dist\.": "distillation_classifier.",
        r"\.[cl]\.": ".linear.",
        r"\.bn\.": ".norm.",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def blocks(config) -> list[tuple[str, bool]]:
    """Return (what our keys begin with, whether it is a residual branch) for each entry of the original's `blocks`."""
    listed = []
    for stage, depth in enumerate(config.depths):
        if stage:
            place = f"model.stages.{stage}.downsampling."
            listed += [(f"{place}attention.", False), (f"{place}mlp.", True)]
        for layer in range(depth):
            place = f"model.stages.{stage}.layers.{layer}."
            listed += [(f"{place}attention.", True), (f"{place}mlp.", True)]
    return listed


def processor(variant: str, config: LevitConfig) -> dict:
    """Return the preprocessing of datasets.py, `build_transform`: short side to 256 / 224 of the size, centre crop."""
    return resize_and_crop(config.image_size, 0.875)


# transformers' own Levit

SHARED_FIELDS = ("num_channels", "depths", "hidden_sizes", "num_attention_heads", "id2label", "label2id")
# Fields that transformers has per stage and the original once.
PER_STAGE = ("attention_ratio", "mlp_ratio")
# The stem, which transformers can vary and the original cannot.
STEM = {"kernel_size": 3, "stride": 2, "padding": 1, "patch_size": STEM_STRIDE}


def from_transformers(model):
    """Return ours for a `LevitModel` or a `LevitForImageClassification`, `WithTeacher` or not, of transformers."""
    has_teacher = isinstance(model, TransformersLevitForImageClassificationWithTeacher)
    model_class, theirs = our_class(model, classes(has_teacher)), model.config
    for name, value in STEM.items():
        if getattr(theirs, name) != value:
            raise ValueError(f"the stem of LeViT has {name}={value}, this model has {name}={getattr(theirs, name)}")
    fields = copy_fields(theirs, (*SHARED_FIELDS, "image_size", "drop_path_rate")) | {"distilled": has_teacher}
    fields |= {name: one_value(theirs, name) for name in PER_STAGE}
    fields["key_dim"] = theirs.key_dim[0] if len(set(theirs.key_dim)) == 1 else list(theirs.key_dim)
    return read_theirs(model, model_class, fields, layout(theirs))


def one_value(config, name: str):
    """Return the value of a field that transformers has per stage and LeViT once; ValueError if stages differ."""
    values = set(getattr(config, name))
    if len(values) > 1:
        raise ValueError(f"LeViT has one {name} for all stages, got {name}={getattr(config, name)}")
    return values.pop()


def to_transformers(model):
    """Return transformers' model for a LeViT of ours; ValueError if transformers cannot express it.

    Stochastic depth is off in it, since transformers' Levit takes no fraction for it.
    """
    config = model.config
    rows, columns = grid_of(*pair(config.image_size), 0)
    if rows != columns:
        raise ValueError(f"transformers' Levit needs square images, got image_size={config.image_size}")
    check_expressible(config, {"hidden_act": "hardswish", "downsampling_attention_ratio": 4, "num_hidden_layers": 3})
    check_expressible(config, {"downsampling_key_dim": None})
    theirs = TransformersLevitConfig(
        image_size=STEM_STRIDE * rows,
        **copy_fields(config, SHARED_FIELDS),
        **{name: [getattr(config, name)] * 3 for name in PER_STAGE},
        key_dim=config.key_dims,
    )
    return write_theirs(model, their_class(model, classes(config.distilled)), theirs, layout(config))


def classes(has_teacher: bool) -> dict:
    """Return {our class: transformers' class}."""
    with_teacher, plain = TransformersLevitForImageClassificationWithTeacher, TransformersLevitForImageClassification
    return {LevitModel: TransformersLevitModel, LevitForImageClassification: with_teacher if has_teacher else plain}


def layout(config) -> list:
    """Return the transforms from keys of transformers' Levit to ours; they can be reversed.

    Args:
        config: our configuration or transformers'.
    """
    renamings = {}
    for index in range(4):
        convolution = f"^levit.patch_embeddings.embedding_layer_{index + 1}."
        renamings[f"{convolution}convolution."] = f"^model.embeddings.projection.{index}.0."
        renamings[f"{convolution}batch_norm."] = f"^model.embeddings.projection.{index}.1."
    # In transformers, the downsampling before a stage is the end of the previous stage.
    remaining = iter(blocks(config))
    for stage, depth in enumerate(config.depths):
        is_last = stage == len(config.depths) - 1
        for index in range(2 * depth + (0 if is_last else 2)):
            place, is_residual = next(remaining)
            theirs = rf"^levit\.encoder\.stages\.{stage}\.layers\.{index}\."
            renamings[rf"{theirs}module\." if is_residual else theirs] = f"^{place}"
    renamings |= {
        r"\.attention_biases": r"\.position_bias\.table",
        r"\.queries_keys_values\.": r"\.qkv\.",
        r"\.keys_values\.": r"\.key_value\.",
        r"\.queries\.": r"\.query\.",
        r"\.linear_up\.": r"\.up\.",
        r"\.linear_down\.": r"\.down\.",
        r"\.batch_norm\.": r"\.norm\.",
        "^classifier_distill.": "^distillation_classifier.",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]
