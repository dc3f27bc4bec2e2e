"""Checkpoints of timm: ViT and its hybrids, DeiT III, LeViT, MViTv2, Swin and TNT.

DeiT and both implementations of TNT have keys in timm that their systems read themselves. Converted models compute
what timm 1.0.31 computes at the native size of the file; where tables are resized for another size, timm blurs first
(antialiasing), which none of our models does.
"""

import re
from collections.abc import Mapping
from math import isqrt

import torch
from transformers.core_model_loading import WeightRenaming

from hf_vits.models.vit.modeling_vit import ViTForImageClassification

from ..shared.inference import count, found, has_bias, num_labels, size
from ..shared.layout import Layout, has_key, renamed
from ..shared.timm_vit import infer_vit, vit_fields, vit_renamings
from ..systems import coat, deit, levit, mvit, swin, tnt
from ..systems.vit import pixels_per_token

# hidden_size, num_hidden_layers, num_attention_heads
VITS = {
    "test": (64, 6, 2),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "medium": (512, 12, 8),
    "betwixt": (640, 12, 10),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "so400m": (1152, 27, 16),
    "huge": (1280, 32, 16),
    "giant": (1408, 40, 16),
    "giantopt": (1536, 40, 16),
    "gigantic": (1664, 48, 16),
}
# {size: what follows it in timm's names}
VIT_NAMES = {
    "tiny": "patch16_224 patch16_384 r_s16_p8_224 r_s16_p8_384",
    "small": "patch8_224 patch16_224 patch16_384 patch32_224 patch32_384 r26_s32_224 r26_s32_384 patch16_36x1_224 "
    "patch14_dinov2",
    "medium": "patch16_gap_240 patch16_gap_256 patch16_gap_384",
    "betwixt": "patch16_gap_256",
    "base": "patch8_224 patch16_224 patch16_384 patch32_224 patch32_384 r26_s32_224 r50_s16_224 r50_s16_384 "
    "patch16_224_miil patch16_gap_224 patch16_plus_240 patch32_plus_256 patch14_dinov2 patch16_siglip_224 "
    "patch16_siglip_256 patch16_siglip_384 patch16_siglip_512 patch32_siglip_256 patch16_siglip_gap_224 "
    "patch16_siglip_gap_256 patch16_siglip_gap_384 patch16_siglip_gap_512 patch32_siglip_gap_256",
    "large": "patch14_224 patch16_224 patch16_384 patch32_224 patch32_384 r50_s32_224 r50_s32_384 patch14_dinov2 "
    "patch16_siglip_256 patch16_siglip_384 patch16_siglip_512 patch16_siglip_gap_256 patch16_siglip_gap_384 "
    "patch16_siglip_gap_512",
    "so400m": "patch14_siglip_224 patch14_siglip_378 patch14_siglip_384 patch16_siglip_256 patch16_siglip_384 "
    "patch16_siglip_512 patch14_siglip_gap_224 patch14_siglip_gap_378 patch14_siglip_gap_384 patch14_siglip_gap_448 "
    "patch14_siglip_gap_896 patch16_siglip_gap_256 patch16_siglip_gap_384 patch16_siglip_gap_512",
    "huge": "patch14_224 patch14_gap_224 patch16_gap_448",
    "giant": "patch14_224 patch16_gap_224",
    "giantopt": "patch16_siglip_256 patch16_siglip_384 patch16_siglip_gap_256 patch16_siglip_gap_384",
    "gigantic": "patch14_224",
}
# Names outside the pattern: the size, and fields that differ from it.
OTHER_VITS = {
    "test_vit": ("test", {}),
    "flexivit_small": ("small", {}),
    "flexivit_base": ("base", {}),
    "flexivit_large": ("large", {}),
    "beit3_base_patch16_224": ("base", {}),
    "beit3_large_patch16_224": ("large", {}),
    "beit3_giant_patch14_224": ("giant", {}),
    "beit3_giant_patch14_336": ("giant", {}),
    "eva_large_patch14_196": ("large", {}),
    "eva_large_patch14_336": ("large", {}),
}
# Parts of the names of SigLIP 2, whose GELU is approximated.
TANH = re.compile(r"patch32_siglip|so400m_patch16_siglip|giantopt|large_patch16_siglip_(gap_)?512")
PLUS = {"hidden_size": 896, "num_attention_heads": 14, "intermediate_size": 3584}


def vit_variant(name: str, size: str) -> dict:
    """Return the fields of a timm variant that no tensor records, and the size's, for finding the nearest one."""
    fields = vit_fields(*VITS[size])
    if "_plus_" in name:
        fields |= PLUS
    if name == "vit_base_patch16_gap_224":
        fields["num_attention_heads"] = 16
    return fields | {"hidden_act": "gelu_pytorch_tanh" if TANH.search(name) else "gelu", **VIT_FIXED}


VIT_FIXED = {"position_interpolation": "bicubic", "layer_norm_eps": 1e-6}
VIT_FIXED |= {"stem_weight_eps": 0.0, "stem_norm_eps": 1e-5}  # of hybrids; timm adds 1e-8 to the variance
LAYER_SCALE = 1e-5  # initial gamma, in most variants that have any
POOL = "model.pooler.attention_pooling."
STEM = "model.embeddings.patch_embedding."
BACKBONE = r"^patch_embed\.backbone\."
# What timm's VisionTransformer can have and our ViT cannot: {regular expression of a key: reason}.
LACKING = {
    r"reg_token$": "it has register tokens",
    r"norm_pre\.": "it normalises tokens before the first layer, as CLIP does",
    r"blocks\.0\.attn\.(q_norm|k_norm)\.": "it normalises queries and keys",
    r"blocks\.0\.attn\.norm\.": "it normalises attended values",
    r"blocks\.0\.(in_proj|attn_out_proj)\.": "attention and MLP of a layer are parallel",
    r"blocks\.0\.mlp\.(fc1_g|w12|w1)\.": "its MLP is gated (SwiGLU)",
    r"patch_embed\.backbone\.(stem\.\d|layer1|conv1|\d)\.": "its stem is no ResNet of the ViT paper's hybrids",
}


class TimmViT(Layout):
    """timm's VisionTransformer, plain or hybrid, with any pooling, to our ViT."""

    library, system = "timm", "vit"
    KEYS = (r"patch_embed\.(proj|backbone)\.", r"blocks\.0\.(attn\.qkv|in_proj)\.", r"blocks\.0\.(norm1|in_norm)\.")
    NOT_KEYS = (r"dist_token$", r"decoder_", r"(student|teacher)\.", r"cls_token1", r"masked_embed")
    FIXED = {"hidden_act": "gelu", **VIT_FIXED}
    VARIANTS = {
        f"vit_{size}_{name}": vit_variant(f"vit_{size}_{name}", size)
        for size, names in VIT_NAMES.items()
        for name in names.split()
    } | {name: vit_variant(name, size) | more for name, (size, more) in OTHER_VITS.items()}

    def check(self, tensors):
        for pattern, reason in LACKING.items():
            if has_key(tensors, pattern):
                self.refuse(reason)
        width, inner = (size(tensors, f"blocks.0.mlp.{key}.weight", 0, 2) for key in ("fc2", "fc1"))
        if width and size(tensors, "blocks.0.mlp.fc2.weight", 1, 2) != inner:
            self.refuse("its MLP is gated (SwiGLU)")
        for norm in ("norm", "fc_norm"):
            if has_bias(tensors, f"{norm}.") is False:
                self.refuse("its norms are RMS norms")
        if not has_key(tensors, r"(norm|fc_norm)\.weight"):
            self.refuse("it has no norm after the last layer")
        if has_key(tensors, r"blocks\.0\.attn\.rel_pos|blocks\.0\.attn\.relative_position|neck\."):
            self.refuse("its attention has relative positions")
        plain = not has_key(tensors, r"cls_token$|blocks\.0\.ls1\.|blocks\.0\.attn\.qkv\.bias")
        if plain and has_key(tensors, r"fc_norm\."):
            self.refuse("its layers normalise after attention and MLP (vit_base_patch16_rpn_224)")

    def model_class(self, fields):
        return ViTForImageClassification

    def prepare(self, tensors, fields):
        return tensors

    def infer(self, tensors, fields):
        has_token = "cls_token" in tensors
        has_map, after = "attn_pool.latent" in tensors, "fc_norm.weight" in tensors
        inferred = infer_vit(tensors) | found(
            hidden_size=size(tensors, "pos_embed", 2, 3) or size(tensors, "patch_embed.proj.weight", 0, 4),
            stem_depths=stem_depths(tensors),
        )
        inferred |= {
            "num_labels": num_labels(tensors),
            "use_class_token": has_token,
            "pooling": "map" if has_map else "mean" if after or not has_token else "token",
            "norm_after_pooling": after,
            "layer_scale_init_value": LAYER_SCALE if "blocks.0.ls1.gamma" in tensors else None,
        }
        if "stem_depths" in inferred:
            stem = size(tensors, "patch_embed.backbone.stem.conv.weight", 1, 4)
            inferred["num_channels"] = stem or size(tensors, "patch_embed.backbone.conv.weight", 1, 4)
        inferred["encoder_stride"] = pixels_per_token(fields | inferred)
        return inferred | infer_positions(tensors, has_token, inferred["encoder_stride"])

    def transforms(self, config):
        names = {
            r"^head\.": "classifier.",
            r"^fc_norm\.": "model.pooler.norm.",
            r"^attn_pool\.latent$": f"{POOL}probe",
            r"^attn_pool\.q\.": f"{POOL}query.",
            r"^attn_pool\.kv\.": f"{POOL}key_value.",
            r"^attn_pool\.proj\.": f"{POOL}projection.",
            r"^attn_pool\.": POOL,
            r"\.ls1\.": ".attention_scale.",
            r"\.ls2\.": ".mlp_scale.",
            rf"{BACKBONE}(stem\.)?conv\.": f"{STEM}root.",
            rf"{BACKBONE}(stem\.)?norm\.": f"{STEM}root_norm.",
            rf"{BACKBONE}stages\.(\d+)\.blocks\.": rf"{STEM}stages.\1.",
            r"\.downsample\.conv\.": ".shortcut.0.",
            r"\.downsample\.norm\.": ".shortcut.1.",
        }
        stage = rf"({re.escape(STEM)}stages\..*)"
        norms = {rf"{stage}\.attention_norm\.": r"\1.norm1.", rf"{stage}\.mlp_norm\.": r"\1.norm2."}
        renamings = [[WeightRenaming(old, new) for old, new in part.items()] for part in (names, norms)]
        return [*renamings[0], *vit_renamings("model."), *renamings[1]]


def stem_depths(tensors: Mapping[str, torch.Tensor]) -> list[int] | None:
    """Return the units per stage of a hybrid's ResNet, [] for its root alone; None if there is no ResNet."""
    if not has_key(tensors, BACKBONE):
        return None
    stages = "patch_embed.backbone.stages."
    return [count(tensors, f"{stages}{stage}.blocks.") or 0 for stage in range(count(tensors, stages) or 0)]


def infer_positions(tensors: Mapping[str, torch.Tensor], has_token: bool, stride: int) -> dict:
    """Return the size of a square image and whether the position table has a row for the class token."""
    rows = size(tensors, "pos_embed", 1, 3) or 0
    for prefix in range(1 + has_token):
        side = isqrt(rows - prefix) if rows > prefix else 0
        if side and side**2 == rows - prefix:
            return {"image_size": side * stride, "position_embedding_prefix": bool(prefix) or not has_token}
    return {}


class TimmDeiT(Layout):
    """DeiT III and parallel ViTs; other DeiTs have their original's keys."""

    library, system = "timm", "deit"
    KEYS = (r"blocks\.0\.(ls1|attns\.0\.norm)\.", r"cls_token$", r"patch_embed\.proj\.")
    NOT_KEYS = TimmViT.NOT_KEYS[1:]
    VARIANTS = {
        f"deit3_{size}": deit.VARIANTS[f"deit_{size.rpartition('_')[0]}_LS"]
        for size in (
            "small_patch16_224",
            "small_patch16_384",
            "medium_patch16_224",
            "base_patch16_224",
            "base_patch16_384",
            "large_patch16_224",
            "large_patch16_384",
            "huge_patch14_224",
        )
    }
    VARIANTS |= {
        f"vit_{size}_patch16_18x2_224": deit.VARIANTS[f"deit_{size}_patch16_18x2"] for size in ("small", "base")
    }

    def check(self, tensors):
        TimmViT.check(self, tensors)

    def rename(self, tensors, fields):
        names = {r"\.ls([12])\.gamma$": r".gamma_\1"}
        for index, number in enumerate(("", "1")):
            scale = f"_{number}" if number else ""
            names |= {
                rf"\.attns\.{index}\.norm\.": f".norm1{number}.",
                rf"\.attns\.{index}\.attn\.": f".attn{number}.",
                rf"\.attns\.{index}\.ls\.gamma$": f".gamma_1{scale}",
                rf"\.ffns\.{index}\.norm\.": f".norm2{number}.",
                rf"\.ffns\.{index}\.mlp\.": f".mlp{number}.",
                rf"\.ffns\.{index}\.ls\.gamma$": f".gamma_2{scale}",
            }
        return renamed(tensors, names)


class TimmLevit(Layout):
    """LeViT, with linear layers or 1x1 convolutions, to the original's numbering of all branches."""

    library, system = "timm", "levit"
    KEYS = (r"stem\.conv1\.linear\.weight", r"stages\.0\.blocks\.0\.attn\.attention_biases")
    VARIANTS = {
        "levit_512": {"hidden_sizes": [512, 768, 1024], "hidden_act": "silu"},
        "levit_256d": {"hidden_sizes": [256, 384, 512], "depths": [4, 8, 6], "hidden_act": "silu"},
        "levit_512d": {"hidden_sizes": [512, 640, 768], "depths": [4, 8, 6], "hidden_act": "silu"},
    }
    VARIANTS |= {
        f"levit_{name}": dict(levit.VARIANTS[f"LeViT_{name.upper()}"]) for name in ("128s", "128", "192", "256", "384")
    }
    VARIANTS |= {name.replace("levit_", "levit_conv_"): fields for name, fields in VARIANTS.items()}

    def check(self, tensors):
        if not has_key(tensors, r"stem\.conv4\."):
            self.refuse("its stem has a stride of 8, ours of 16 (levit_384_s8, levit_512_s8)")

    def rename(self, tensors, fields):
        names = {rf"^stem\.conv{index + 1}\.": f"patch_embed.{2 * index}." for index in range(4)}
        place = 0
        for stage in range(count(tensors, "stages.") or 0):
            ours = rf"^stages\.{stage}\."
            if stage:
                names[rf"{ours}downsample\.attn_downsample\."] = f"blocks.{place}."
                names[rf"{ours}downsample\.mlp\."] = f"blocks.{place + 1}.m."
                place += 2
            for block in range(count(tensors, f"stages.{stage}.blocks.") or 0):
                names[rf"{ours}blocks\.{block}\.attn\."] = f"blocks.{place}.m."
                names[rf"{ours}blocks\.{block}\.mlp\."] = f"blocks.{place + 1}.m."
                place += 2
        names |= {
            r"\.m\.ln([12])\.": lambda match: f".m.{2 * int(match[1]) - 2}.",
            r"\.(q|proj)\.ln\.": r".\1.1.",
            r"^(head\w*)\.linear\.": r"\1.l.",
            r"\.linear\.": ".c.",
        }
        return renamed(tensors, names)


class TimmMvit(Layout):
    """MViTv2 to SlowFast's numbering of all layers."""

    library, system = "timm", "mvit"
    KEYS = (r"stages\.0\.blocks\.0\.attn\.pool_k\.", r"patch_embed\.proj\.weight")
    VARIANTS = {
        f"mvitv2_{timm}": dict(mvit.VARIANTS[ours])
        for timm, ours in {
            "tiny": "mvitv2_t_in1k",
            "small": "mvitv2_s_in1k",
            "base": "mvitv2_b_in1k",
            "large": "mvitv2_l_in1k",
        }.items()
    }

    def rename(self, tensors, fields):
        names, place = {r"^head\.fc\.": "head.projection.", r"\.shortcut_proj_(attn|mlp)\.": ".proj."}, 0
        for stage in range(count(tensors, "stages.") or 0):
            for block in range(count(tensors, f"stages.{stage}.blocks.") or 0):
                names[rf"^stages\.{stage}\.blocks\.{block}\."] = f"blocks.{place}."
                place += 1
        return renamed(tensors, names)

    def check(self, tensors):
        if "cls_token" in tensors:
            self.refuse(
                "with a class token (mvitv2_base_cls and its like), timm adds the pooled query to the class token "
                "too, which the authors' code does not, so that it computes another function with the same weights. "
                "Convert the authors' own file"
            )


class TimmCoat(Layout):
    """CoaT without the norms that classification does not read."""

    library, system = "timm", "coat"
    KEYS = (r"cls_token1$", r"serial_blocks1\.0\.factoratt_crpe\.", r"head\.|norm4\.")
    NOT_KEYS = (r"norm1\.",)
    VARIANTS = {name.replace("_384x384", "_384"): fields for name, fields in coat.VARIANTS.items()}

    def rename(self, tensors, fields):
        tensors = dict(tensors)
        for scale in range(1, 1 + (count(tensors, "serial_blocks", first=1) or 0)):
            width = size(tensors, f"cls_token{scale}", 2, 3)
            if width and f"norm{scale}.weight" not in tensors:
                tensors |= {f"norm{scale}.weight": torch.ones(width), f"norm{scale}.bias": torch.zeros(width)}
        return tensors


class TimmSwin(Layout):
    """Swin, whose downsampling begins a stage in timm and ends the one before in the original."""

    library, system = "timm", "swin"
    KEYS = (r"layers\.1\.downsample\.", r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table")
    NOT_KEYS = (r"layers\.0\.downsample\.",)
    VARIANTS = {
        name: swin.VARIANTS[name if name in swin.VARIANTS else f"{name}_22kto1k"]
        for name in (
            "swin_tiny_patch4_window7_224",
            "swin_small_patch4_window7_224",
            "swin_base_patch4_window7_224",
            "swin_base_patch4_window12_384",
            "swin_large_patch4_window7_224",
            "swin_large_patch4_window12_384",
        )
    }
    VARIANTS["swin_s3_small_224"] = VARIANTS["swin_small_patch4_window7_224"] | {"window_size": 14}

    def check(self, tensors):
        tables = (
            f"layers.{stage}.blocks.0.attn.relative_position_bias_table"
            for stage in range(count(tensors, "layers.") or 0)
        )
        sides = [(isqrt(size(tensors, table, 0, 2) or 1) + 1) // 2 for table in tables]
        if sides != sorted(sides, reverse=True):
            self.refuse(f"its stages have windows of different sizes, {sides} (Swin S3)")

    def rename(self, tensors, fields):
        stages = range(1, count(tensors, "layers.") or 1)
        names = {rf"^layers\.{stage}\.downsample\.": f"layers.{stage - 1}.downsample." for stage in stages}
        return renamed(tensors, names | {r"^head\.fc\.": "head."})


class TimmTnt(Layout):
    """TNT, whose two implementations have keys that the system reads."""

    library, system = "timm", "tnt"
    KEYS = (r"pixel_pos$", r"patch_pos$")
    VARIANTS = tnt.VARIANTS | {"tnt_s_legacy_patch16_224": tnt.VARIANTS["tnt_s_patch16_224"]}


LAYOUTS = [TimmViT(), TimmDeiT(), TimmLevit(), TimmCoat(), TimmMvit(), TimmSwin(), TimmTnt()]
