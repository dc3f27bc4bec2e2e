"""Checkpoints of torchvision: ViT, Swin and MViT. Converted models compute what torchvision 0.29 computes."""

import torch

from ..shared.inference import count
from ..shared.layout import Layout, has_key, renamed
from ..shared.timm_vit import vit_fields
from ..systems import mvit, swin
from .timm import VIT_FIXED, TimmViT

SIZES = {"b": (768, 12, 12), "l": (1024, 24, 16), "h": (1280, 32, 16)}


class TorchvisionViT(TimmViT):
    """ViT, under timm's names and then ours."""

    library = "torchvision"
    KEYS = (r"conv_proj\.weight", r"class_token$", r"encoder\.layers\.encoder_layer_0\.self_attention\.in_proj_weight")
    NOT_KEYS = ()
    VARIANTS = {
        f"vit_{name}_{patch}": vit_fields(*SIZES[name], patch) | TimmViT.FIXED | VIT_FIXED
        for name, patch in (("b", 16), ("b", 32), ("l", 16), ("l", 32), ("h", 14))
    }

    def prepare(self, tensors, fields):
        names = {
            r"^class_token$": "cls_token",
            r"^conv_proj\.": "patch_embed.proj.",
            r"^encoder\.pos_embedding$": "pos_embed",
            r"^encoder\.layers\.encoder_layer_(\d+)\.": r"blocks.\1.",
            r"^encoder\.ln\.": "norm.",
            r"^heads\.head\.": "head.",
            r"\.ln_([12])\.": r".norm\1.",
            r"\.self_attention\.in_proj_": ".attn.qkv.",
            r"\.self_attention\.out_proj\.": ".attn.proj.",
            r"\.mlp\.(0|linear_1)\.": ".mlp.fc1.",
            r"\.mlp\.(3|linear_2)\.": ".mlp.fc2.",
        }
        return renamed(tensors, names)

    def check(self, tensors):
        if has_key(tensors, r"conv_proj\.0\."):
            self.refuse("its stem has several convolutions")


class TorchvisionSwin(Layout):
    """Swin, first version, whose stages and downsamplings are entries of one list."""

    library, system = "torchvision", "swin"
    KEYS = (r"features\.0\.0\.weight", r"features\.1\.0\.attn\.(relative_position_bias_table|cpb_mlp)")
    VARIANTS = {
        f"swin_{name[0]}": swin.VARIANTS[f"swin_{name}_patch4_window7_224"] for name in ("tiny", "small", "base")
    }

    def check(self, tensors):
        if has_key(tensors, r"features\.1\.0\.attn\.logit_scale"):
            self.refuse("it is Swin V2, whose attention has a learned temperature")

    def rename(self, tensors, fields):
        names = {r"^features\.0\.0\.": "patch_embed.proj.", r"^features\.0\.2\.": "patch_embed.norm."}
        for stage in range((count(tensors, "features.") or 0) // 2):
            names[rf"^features\.{2 * stage + 1}\."] = f"layers.{stage}.blocks."
            names[rf"^features\.{2 * stage + 2}\."] = f"layers.{stage}.downsample."
        return renamed(tensors, names | {r"\.mlp\.0\.": ".mlp.fc1.", r"\.mlp\.3\.": ".mlp.fc2."})


class TorchvisionMvit(Layout):
    """MViT for clips, to SlowFast's keys."""

    library, system = "torchvision", "mvit"
    KEYS = (r"conv_proj\.weight", r"blocks\.0\.attn\.(qkv|pool_k)\.", r"pos_encoding\.")
    VARIANTS = {
        "mvit_v1_b": mvit.VARIANTS["mvit_b_16x4_k400"],
        "mvit_v2_s": mvit.VARIANTS["mvitv2_s_16x4_k400"],
    }

    def rename(self, tensors, fields):
        names = {
            r"^conv_proj\.": "patch_embed.proj.",
            r"^pos_encoding\.class_token$": "cls_token",
            r"^pos_encoding\.(spatial|temporal|class)_pos$": r"pos_embed_\1",
            r"\.attn\.pool_([qkv])\.pool\.": r".attn.pool_\1.",
            r"\.attn\.pool_([qkv])\.norm_act\.0\.": r".attn.norm_\1.",
            r"\.attn\.project\.0\.": ".attn.proj.",
            r"\.mlp\.0\.": ".mlp.fc1.",
            r"\.mlp\.3\.": ".mlp.fc2.",
            r"\.project\.": ".proj.",
            r"^head\.1\.": "head.projection.",
        }
        return renamed({key: with_leading_axes(key, value) for key, value in tensors.items()}, names)


def with_leading_axes(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return the class token or positions, which lack the leading axes here, as (1, positions, channels)."""
    return tensor.view(1, -1, tensor.shape[-1]) if key.startswith("pos_encoding.") and tensor.ndim else tensor


LAYOUTS = [TorchvisionViT(), TorchvisionSwin(), TorchvisionMvit()]
