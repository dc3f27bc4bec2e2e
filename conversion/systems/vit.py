"""google-research/vision_transformer (.npz) and google-research/big_vision (.npz) to `ViTForImageClassification`.

Variants have the names of vision_transformer (`ViT-B_16`, vit_jax/configs/models.py) and of big_vision (`B/16`,
big_vision/models/vit.py, `decode_variant`). Read from the file: number of classes, image size, representation layer,
type of pooling and of positions.
"""

import re

import torch
from PIL.Image import Resampling
from transformers import ViTConfig as TransformersViTConfig
from transformers import ViTForImageClassification as TransformersViTForImageClassification
from transformers import ViTForMaskedImageModeling as TransformersViTForMaskedImageModeling
from transformers import ViTModel as TransformersViTModel
from transformers import ViTMSNForImageClassification, ViTMSNModel
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming

from hf_vits.configuration import pair
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

from ..shared.flax import infer_flax_heads, torch_layout, unstack_scanned
from ..shared.inference import count, found, num_labels, size
from ..shared.transformers_layout import check_expressible, our_class, read_theirs
from ..shared.transformers_vit import (
    PLAIN,
    our_fields,
    representation_size,
    their_fields,
    vit_layout,
    write_encoder,
)

# hidden_size, num_hidden_layers, intermediate_size, num_attention_heads
SIZES = {
    "mu": (32, 1, 128, 2),
    "Ti": (192, 12, 768, 3),
    "S": (384, 12, 1536, 6),
    "M": (512, 12, 2048, 8),
    "B": (768, 12, 3072, 12),
    "L": (1024, 24, 4096, 16),
    "So400m": (1152, 27, 4304, 16),
    "H": (1280, 32, 5120, 16),
    "g": (1408, 40, 6144, 16),
    "g-opt": (1536, 40, 6144, 16),
    "G": (1664, 48, 8192, 16),
    "G-opt": (1536, 48, 8192, 16),
    "e": (1792, 56, 15360, 16),
}


def size_fields(size: str, patch_size: int, **more) -> dict:
    names = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads")
    return {
        **dict(zip(names, SIZES[size], strict=True)),
        "patch_size": patch_size,
        "encoder_stride": patch_size,
        **more,
    }


def big_vision_fields(size: str, patch_size: int) -> dict:
    return size_fields(size, patch_size, position_embedding_prefix=False, position_initializer_range=None)


GAP = {"use_class_token": False, "pooling": "mean"}
VARIANTS = {
    "ViT-Ti_16": size_fields("Ti", 16),
    "ViT-S_16": size_fields("S", 16),
    "ViT-S_32": size_fields("S", 32),
    "ViT-B_8": size_fields("B", 8),
    "ViT-B_16": size_fields("B", 16),
    "ViT-B_32": size_fields("B", 32),
    "ViT-L_16": size_fields("L", 16),
    "ViT-L_32": size_fields("L", 32),
    "ViT-H_14": size_fields("H", 14),
    "ViT-S_16-gap-norep": size_fields("S", 16, **GAP),
    "ViT-S_32-gap-norep": size_fields("S", 32, **GAP),
    "ViT-B_16-gap-norep": size_fields("B", 16, **GAP),
    "ViT-B_32-gap-norep": size_fields("B", 32, **GAP),
    # Hybrids: the patch size is in cells of the ResNet's feature map.
    "R+ViT-Ti_16": size_fields("Ti", 8, stem_depths=[], encoder_stride=32),
    "R26+ViT-S_32": size_fields("S", 1, stem_depths=[2, 2, 2, 2], encoder_stride=32),
    "R26+ViT-B_32": size_fields("B", 1, stem_depths=[2, 2, 2, 2], encoder_stride=32),
    "R50+ViT-B_16": size_fields("B", 1, stem_depths=[3, 4, 9], encoder_stride=16),
    "R50+ViT-L_32": size_fields("L", 1, stem_depths=[3, 4, 6, 3], encoder_stride=32),
    **{
        f"{size}/{patch}": big_vision_fields(size, patch)
        for size in SIZES
        for patch in (8, 14, 16, 32)
    },
}  # fmt: skip


def is_big_vision(variant: str) -> bool:
    return "/" in variant


def model_class(fields: dict) -> type[ViTForImageClassification]:
    return ViTForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Rename old keys to big_vision's present ones and convert to torch's layout.

    Older files number submodules differently, have the position table and the MAP head under other keys, or stack the
    layers (big_vision/models/vit.py, `fix_old_checkpoints` and `scan_to_pyloop`; vit_jax/checkpoint.py).
    """
    tensors = {current_key(key): value for key, value in tensors.items()}
    tensors = unstack_scanned(tensors, "Transformer/encoderblock/", "Transformer/encoderblock_{}/")
    if not fields.get("position_embedding_prefix", True) and has_prefix_row(tensors):
        # In an old table, the first row is the class token's position; big_vision adds it to the token.
        table = tensors["pos_embedding"]
        tensors["pos_embedding"] = table[:, 1:]
        if "cls" in tensors:
            tensors["cls"] = tensors["cls"] + table[:, :1]
    return torch_layout(tensors)


def current_key(key: str) -> str:
    """Return big_vision's present key for a key of any age."""
    key = re.sub(r"^Transformer/(posembed_input/)?pos_embedding$", "pos_embedding", key)
    key = re.sub(r"^(probe$|(MlpBlock|MultiHeadDotProductAttention|LayerNorm)_0/)", r"MAPHead_0/\1", key)
    # Before Flax Linen, the submodules of a block were numbered together, not per class.
    key = re.sub(r"(?<=/)LayerNorm_2(?=/)", "LayerNorm_1", key)
    key = re.sub(r"(?<=/)MultiHeadDotProductAttention_1(?=/)", "MultiHeadDotProductAttention_0", key)
    return re.sub(r"(?<=/)MlpBlock_3(?=/)", "MlpBlock_0", key)


def has_prefix_row(tensors: dict[str, torch.Tensor]) -> bool:
    """Return whether the position table is one row longer than a square."""
    num_rows = size(tensors, "pos_embedding", 1, 3)
    return num_rows is not None and round((num_rows - 1) ** 0.5) ** 2 + 1 == num_rows


def infer_original(tensors: dict[str, torch.Tensor]) -> dict:
    """Return the number of heads, an axis of the kernels in the file."""
    return infer_flax_heads(tensors)


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = {
        "num_labels": num_labels(tensors),
        "representation_size": size(tensors, "pre_logits.bias", 0, 1),
        **infer_sizes(tensors),
    }
    if not fields.get("position_embedding_prefix", True):
        # big_vision's variants only name sizes; pooling and positions are options of each training run.
        has_token = "cls" in tensors
        inferred |= {
            "use_class_token": has_token,
            "pooling": "map" if "MAPHead_0.probe" in tensors else "token" if has_token else "mean",
            "position_embedding_type": "learned" if "pos_embedding" in tensors else "sincos2d",
        }
    if num_rows := size(tensors, "pos_embedding", 1, 3):
        prefix = int(fields.get("position_embedding_prefix", True) and fields.get("use_class_token", True))
        side = round((num_rows - prefix) ** 0.5)
        inferred["image_size"] = side * pixels_per_token(fields | inferred)
    if inferred.keys() & {"patch_size", "stem_depths"}:
        inferred["encoder_stride"] = pixels_per_token(fields | inferred)
    return inferred


def infer_sizes(tensors: dict[str, torch.Tensor]) -> dict:
    height, width = (size(tensors, "embedding.weight", axis, 4) for axis in (2, 3))
    sizes = found(
        hidden_size=size(tensors, "Transformer.encoder_norm.weight", 0, 1),
        num_hidden_layers=count(tensors, "Transformer.encoderblock_"),
        intermediate_size=size(tensors, "Transformer.encoderblock_0.MlpBlock_0.Dense_0.weight", 0, 2),
        patch_size=height if height == width else [height, width],
    )
    if "conv_root.weight" not in tensors:
        return sizes | found(num_channels=size(tensors, "embedding.weight", 1, 4))
    stages = range(1, 1 + (count(tensors, "block", first=1) or 0))
    depths = [count(tensors, f"block{stage}.unit", first=1) or 0 for stage in stages]
    return sizes | found(stem_depths=depths, num_channels=size(tensors, "conv_root.weight", 1, 4))


def pixels_per_token(fields: dict) -> int:
    """Return the side of a token in pixels: the patch size times the stride of a hybrid's ResNet."""
    stages = fields.get("stem_depths")
    return pair(fields["patch_size"])[0] * (1 if stages is None else 4 * 2 ** max(len(stages) - 1, 0))


def transforms(config: ViTConfig) -> list:
    attention = r"MultiHeadDotProductAttention_0\."
    patch = "model.embeddings.patch_embedding"
    renamings = {
        r"^Transformer\.encoderblock_(\d+)\.": r"model.layers.\1.",
        r"^Transformer\.encoder_norm\.": "model.norm.",
        r"^pos_embedding$": "model.embeddings.position_embedding.table",
        r"^cls$": "model.embeddings.prefix_tokens",
        r"^embedding\.": f"{patch}.projection.",
        r"^pre_logits\.": "model.pooler.representation.",
        r"^head\.": "classifier.",
        r"^MAPHead_0\.LayerNorm_0\.": "model.pooler.attention_pooling.norm.",
        rf"^MAPHead_0\.{attention}query\.": "model.pooler.attention_pooling.query.",
        r"^MAPHead_0\.": "model.pooler.attention_pooling.",
        r"LayerNorm_0\.": "attention_norm.",
        r"LayerNorm_1\.": "mlp_norm.",
        r"MlpBlock_0\.Dense_0\.": "mlp.up.",
        r"MlpBlock_0\.Dense_1\.": "mlp.down.",
        rf"attention_pooling\.{attention}out\.": "attention_pooling.projection.",
        rf"{attention}out\.": "attention.projection.",
        r"^conv_root\.": f"{patch}.root.",
        r"^gn_root\.": f"{patch}.root_norm.",
    }
    for stage, depth in enumerate(config.stem_depths or []):
        for unit in range(depth):
            old, new = rf"^block{stage + 1}\.unit{unit + 1}\.", f"{patch}.stages.{stage}.{unit}."
            renamings |= {
                rf"{old}gn(\d)\.": rf"{new}norm\1.",
                f"{old}conv_proj\\.": f"{new}shortcut.0.",
                f"{old}gn_proj\\.": f"{new}shortcut.1.",
                old: new,
            }
    return [
        *(WeightRenaming(old, new) for old, new in renamings.items()),
        WeightConverter(
            [f"attention_pooling.MultiHeadDotProductAttention_0.{part}" for part in ("key", "value")],
            "attention_pooling.key_value",
            [Concatenate(0)],
        ),
        WeightConverter(
            [f"MultiHeadDotProductAttention_0.{part}" for part in ("query", "key", "value")],
            "attention.qkv",
            [Concatenate(0)],
        ),
    ]


def processor(variant: str, config: ViTConfig) -> dict:
    """Return the preprocessing of vit_jax/input_pipeline.py, or of big_vision/configs (resize_small, centre crop)."""
    height, width = pair(config.image_size)
    scaled = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    if not is_big_vision(variant):
        return {
            "convention": "vision_transformer",
            "size": {"height": height, "width": width},
            "resample": Resampling.BILINEAR,
            "do_center_crop": False,
            **scaled,
        }
    return {
        "convention": "big_vision",
        "size": {"shortest_edge": round(min(height, width) * 256 / 224)},
        "crop_size": {"height": height, "width": width},
        "resample": Resampling.BOX,
        "do_center_crop": True,
        **scaled,
    }


# transformers' own ViT

TRANSFORMERS_CLASSES = {
    ViTModel: TransformersViTModel,
    ViTForImageClassification: TransformersViTForImageClassification,
    ViTForMaskedImageModeling: TransformersViTForMaskedImageModeling,
}


# ViTMSN has ViT's keys, and no pooler.
MSN_CLASSES = {ViTModel: ViTMSNModel, ViTForImageClassification: ViTMSNForImageClassification}


def from_transformers(model):
    """Return ours for a `ViTModel`, `ViTForImageClassification` or `ViTForMaskedImageModeling` of transformers.

    Also for a `ViTMSNModel` or `ViTMSNForImageClassification`, which compute the same; back they become ViTs.
    """
    classes = MSN_CLASSES if model.config.model_type == "vit_msn" else TRANSFORMERS_CLASSES
    model_class = our_class(model, classes)
    fields = our_fields(model.config) | {
        "representation_size": representation_size(model),
        "use_mask_token": getattr(model, "vit", model).embeddings.mask_token is not None,
    }
    return read_theirs(model, model_class, fields, vit_layout("vit"))


def to_transformers(model):
    """Return transformers' model for our `ViTModel`, `ViTForImageClassification` or `ViTForMaskedImageModeling`."""
    check_expressible(model.config, PLAIN)
    fields = their_fields(model.config)
    return write_encoder(model, TRANSFORMERS_CLASSES, TransformersViTConfig, fields, vit_layout("vit"))
