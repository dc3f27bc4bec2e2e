"""facebookresearch/deit (.pth) to `DeiTForImageClassification`: DeiT, DeiT III and the parallel ViTs.

Variants have the names of its factory functions (models.py, models_v2.py).
"""

from math import isqrt

import torch
from transformers import DeiTConfig as TransformersDeiTConfig
from transformers import DeiTForImageClassification as TransformersDeiTForImageClassification
from transformers import DeiTForImageClassificationWithTeacher as TransformersDeiTForImageClassificationWithTeacher
from transformers import DeiTModel as TransformersDeiTModel
from transformers import ViTConfig as TransformersViTConfig
from transformers import ViTForImageClassification as TransformersViTForImageClassification
from transformers import ViTModel as TransformersViTModel
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming, WeightTransform

from hf_vits.configuration import pair
from hf_vits.models.deit.configuration_deit import DeiTConfig
from hf_vits.models.deit.modeling_deit import DeiTForImageClassification, DeiTModel

from ..shared.inference import num_labels, size
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import BLOCK, infer_vit, vit_fields
from ..shared.transformers_layout import check_expressible, our_class, read_theirs, write_theirs
from ..shared.transformers_vit import PLAIN, our_fields, their_fields, vit_layout, write_encoder

LAYER_SCALE = 1e-4  # initial gamma of layer scale


def later_fields(*sizes: int, layer_scale: bool = True, **more) -> dict:
    """Return the fields of a model of models_v2.py: no position for the class token, constant stochastic depth."""
    scale = {"layer_scale_init_value": LAYER_SCALE} if layer_scale else {}
    return vit_fields(*sizes, position_embedding_prefix=False, drop_path_schedule="constant", **scale, **more)


TINY, SMALL, BASE = (192, 12, 3), (384, 12, 6), (768, 12, 12)
SIZE_384 = {"image_size": 384}
VARIANTS = {
    "deit_tiny_patch16_224": vit_fields(*TINY),
    "deit_small_patch16_224": vit_fields(*SMALL),
    "deit_base_patch16_224": vit_fields(*BASE),
    "deit_tiny_distilled_patch16_224": vit_fields(*TINY, distilled=True),
    "deit_small_distilled_patch16_224": vit_fields(*SMALL, distilled=True),
    "deit_base_distilled_patch16_224": vit_fields(*BASE, distilled=True),
    "deit_base_patch16_384": vit_fields(*BASE, **SIZE_384),
    "deit_base_distilled_patch16_384": vit_fields(*BASE, distilled=True, **SIZE_384),
    "deit_tiny_patch16_LS": later_fields(*TINY),
    "deit_small_patch16_LS": later_fields(*SMALL),
    "deit_medium_patch16_LS": later_fields(512, 12, 8),
    "deit_base_patch16_LS": later_fields(*BASE),
    "deit_large_patch16_LS": later_fields(1024, 24, 16),
    "deit_huge_patch14_LS": later_fields(1280, 32, 16, 14),
    "deit_huge_patch14_52_LS": later_fields(1280, 52, 16, 14),
    "deit_huge_patch14_26x2_LS": later_fields(1280, 26, 16, 14, num_parallel_branches=2),
    "deit_giant_40_patch14_LS": later_fields(1408, 40, 16, 14),
    "deit_Giant_48_patch14_LS": later_fields(1664, 48, 16, 14),
    "deit_small_patch16_36": later_fields(384, 36, 6, layer_scale=False),
    "deit_small_patch16_36_LS": later_fields(384, 36, 6),
    "deit_small_patch16_18x2": later_fields(384, 18, 6, layer_scale=False, num_parallel_branches=2),
    "deit_small_patch16_18x2_LS": later_fields(384, 18, 6, num_parallel_branches=2),
    "deit_base_patch16_36x1": later_fields(768, 36, 12, layer_scale=False),
    "deit_base_patch16_36x1_LS": later_fields(768, 36, 12),
    "deit_base_patch16_18x2": later_fields(768, 18, 12, layer_scale=False, num_parallel_branches=2),
    "deit_base_patch16_18x2_LS": later_fields(768, 18, 12, num_parallel_branches=2),
}


def model_class(fields: dict) -> type[DeiTForImageClassification]:
    return DeiTForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    return tensors


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = infer_vit(tensors) | {
        "num_labels": num_labels(tensors),
        "distilled": "dist_token" in tensors,
    }
    if any(key.startswith("blocks.0.norm") for key in tensors):
        inferred["num_parallel_branches"] = 2 if "blocks.0.norm11.weight" in tensors else 1
        if "blocks.0.gamma_1" not in tensors:
            inferred["layer_scale_init_value"] = None
        elif fields.get("layer_scale_init_value") is None:
            inferred["layer_scale_init_value"] = LAYER_SCALE
    if "patch_embed.proj.1.running_var" in tensors:
        inferred["stem"] = "hierarchical_mlp"
    return inferred | infer_positions(tensors, fields | inferred)


def infer_positions(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return the size of a square image and whether the position table has rows for prefix tokens; {} if unclear."""
    num_positions = size(tensors, "pos_embed", 1, 3) or 0
    for num_tokens, has_prefix in ((0, False), (1 + fields["distilled"], True)):
        side = isqrt(max(num_positions - num_tokens, 0))
        if side and side**2 == num_positions - num_tokens:
            return {
                "image_size": side * pair(fields["patch_size"])[0],
                "position_embedding_prefix": has_prefix,
            }
    return {}


def transforms(config: DeiTConfig) -> list:
    renamings = {
        "^pos_embed$": "model.embeddings.position_embedding.table",
        r"^norm\.": "model.norm.",
        r"^head\.": "classifier.",
        r"^head_dist\.": "distillation_classifier.",
    }
    if config.stem == "hierarchical_mlp":
        renamings[r"^patch_embed\.proj\."] = "model.embeddings.patch_embedding.layers."
    else:
        renamings[r"^patch_embed\.proj\."] = "model.embeddings.patch_embedding.projection."
    for index in range(config.num_parallel_branches):
        # The second branch has "1" after each name, "_1" after its layer scales.
        branch = r"model.layers.\1." if config.num_parallel_branches == 1 else rf"model.layers.\1.branches.{index}."
        number, scale_number = ("", "") if index == 0 else (str(index), f"_{index}")
        parts = ("norm1", "attn", "norm2", "mlp")
        renamings |= {rf"^blocks\.(\d+)\.{part}{number}\.": f"{branch}{part}." for part in parts}
        renamings |= {
            rf"^blocks\.(\d+)\.gamma_1{scale_number}$": f"{branch}attention_scale.gamma",
            rf"^blocks\.(\d+)\.gamma_2{scale_number}$": f"{branch}mlp_scale.gamma",
        }
    return [
        *(WeightRenaming(old, new) for old, new in (renamings | BLOCK).items()),
        WeightConverter(["^cls_token", "^dist_token"], "model.embeddings.prefix_tokens", [Concatenate(1)]),
    ]


def processor(variant: str, config: DeiTConfig) -> dict:
    """Return the preprocessing of datasets.py, `build_transform`: short side to size / crop ratio, centre crop.

    The crop ratio is 0.875, for DeiT III 1.
    """
    return resize_and_crop(config.image_size, 0.875 if config.position_embedding_prefix else 1.0)


# transformers' own DeiT


# Our plain DeiT is transformers' ViT.
PLAIN_CLASSES = {DeiTModel: TransformersViTModel, DeiTForImageClassification: TransformersViTForImageClassification}


def from_transformers(model):
    """Return ours for a `DeiTModel` or a `DeiTForImageClassification`, `WithTeacher` or not, of transformers.

    transformers' classifiers always have a distillation token; the one without teacher has no head on it.
    """
    model_class = our_class(model, {DeiTModel: TransformersDeiTModel} | {DeiTForImageClassification: type(model)})
    has_teacher = isinstance(model, TransformersDeiTForImageClassificationWithTeacher)
    fields = our_fields(model.config) | {"distilled": True, "distillation_head": has_teacher}
    return read_theirs(model, model_class, fields, deit_layout(has_teacher))


def to_transformers(model):
    """Return transformers' model for our `DeiTModel` or `DeiTForImageClassification`.

    A distilled model becomes `DeiTForImageClassificationWithTeacher`, one whose distillation token has no head
    `DeiTForImageClassification`, a plain one `ViTModel` or `ViTForImageClassification`.
    """
    config = model.config
    plain = {"num_parallel_branches": 1, "stem": "patch", "representation_size": None, "feed_forward": "mlp"}
    plain |= {"use_relative_position_bias": False, "use_shared_relative_position_bias": False}
    check_expressible(config, PLAIN | plain)
    fields = their_fields(config)
    if not config.distilled:
        return write_encoder(model, PLAIN_CLASSES, TransformersViTConfig, fields, vit_layout("vit"))
    target, options = TransformersDeiTForImageClassification, {}
    if isinstance(model, DeiTModel):
        target, options = TransformersDeiTModel, {"add_pooling_layer": False}
    elif config.distillation_head:
        target = TransformersDeiTForImageClassificationWithTeacher
    layout = deit_layout(config.distillation_head)
    return write_theirs(model, target, TransformersDeiTConfig(**fields), layout, **options)


def deit_layout(has_teacher: bool) -> list[WeightTransform]:
    """Return the transforms from keys of transformers' DeiT to ours; they can be reversed."""
    heads = [WeightRenaming("^cls_classifier.", "^classifier.")] if has_teacher else []
    return [*heads, *vit_layout("deit")]
