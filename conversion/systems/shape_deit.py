"""Muzammal-Naseer/Intriguing-Properties-of-Vision-Transformers (.pth) to `DeiTForImageClassification`.

DeiTs that were trained on Stylized ImageNet, or to match a teacher that was: the shape token is DeiT's distillation
token. Further DeiTs have no positions or other patch sizes. Variants have the names of the published files.
"""

import torch

from hf_vits.configuration import pair
from hf_vits.models.deit.configuration_deit import DeiTConfig

from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import vit_fields
from . import deit
from .deit import SMALL, TINY, model_class, prepare, transforms

IMAGE_SIZE = 224


def shape_fields(
    hidden_size: int, num_hidden_layers: int, num_attention_heads: int, patch_size: int = 16, **more
) -> dict:
    """Return the fields of a DeiT of this system, for images of 224 x 224 whether patches fill them or not."""
    border = {"ignore_border": True} if IMAGE_SIZE % patch_size else {}
    sizes = hidden_size, num_hidden_layers, num_attention_heads, patch_size
    return vit_fields(*sizes, position_interpolation="bicubic_scale", **border, **more)


VARIANTS = {
    "deit_t_sin": shape_fields(*TINY),
    "deit_t_sin_dist": shape_fields(*TINY, distilled=True),
    "deit_s_sin": shape_fields(*SMALL),
    "deit_s_sin_dist": shape_fields(*SMALL, distilled=True),
    "no_pos_deit_t": shape_fields(*TINY, position_embedding_type="none"),
    **{f"patch_{size}_deit_t": shape_fields(*TINY, patch_size=size) for size in (22, 28, 32, 38)},
}


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return what DeiT's files record; without positions, the image size remains the variant's."""
    inferred = deit.infer(tensors, fields)
    if any(key.startswith("blocks.") for key in tensors):
        inferred["position_embedding_type"] = "learned" if "pos_embed" in tensors else "none"
    patch = pair(inferred.get("patch_size", fields["patch_size"]))[0]
    if (size := inferred.get("image_size")) and size // patch == IMAGE_SIZE // patch:
        inferred |= {"image_size": IMAGE_SIZE, "ignore_border": bool(IMAGE_SIZE % patch)}
    return inferred


def processor(variant: str, config: DeiTConfig) -> dict:
    """Return the preprocessing of evaluate.py: short side to 256 bilinearly, centre crop to 224."""
    return resize_and_crop(config.image_size, 0.875) | {"resample": 2}


__all__ = ["VARIANTS", "infer", "model_class", "prepare", "processor", "transforms"]
