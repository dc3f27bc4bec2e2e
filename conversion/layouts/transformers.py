"""Weights that transformers saved: ViT, DeiT, ViTMSN, ViTMAE, LeViT, CvT, ViViT, Swin and PVT.

A folder or repository with config.json converts better by `from_transformers`: its configuration records all that a
file of weights does not. Keys of transformers 4 and 5 are read. Converted models compute what transformers 5.24
computes; its CvT has the exact GELU where the authors' has QuickGELU.
"""

import re
from collections.abc import Mapping

import torch
from transformers.core_model_loading import WeightRenaming

from ..shared.inference import count, size
from ..shared.layout import Layout, has_key, renamed
from ..shared.timm_vit import vit_fields
from ..systems import cvt, levit, mae, pvt, swin, vivit
from .timm import TimmViT

# Keys inside a layer of ViT and its kin, of transformers 4 and 5, to timm's.
LAYER = {
    r"\.attention\.attention\.(query|key|value)\.": r".attn.\1.",
    r"\.attention\.self\.(query|key|value)\.": r".attn.\1.",
    r"\.attention\.q_proj\.": ".attn.query.",
    r"\.attention\.k_proj\.": ".attn.key.",
    r"\.attention\.v_proj\.": ".attn.value.",
    r"\.attention\.(output\.dense|o_proj)\.": ".attn.proj.",
    r"\.intermediate\.dense\.": ".mlp.fc1.",
    r"\.output\.dense\.": ".mlp.fc2.",
    r"\.layernorm_before\.": ".norm1.",
    r"\.layernorm_after\.": ".norm2.",
}
ENCODER = {
    r"^(vit|deit)\.": "",
    r"^embeddings\.cls_token$": "cls_token",
    r"^embeddings\.distillation_token$": "dist_token",
    r"^embeddings\.position_embeddings$": "pos_embed",
    r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    r"^(encoder\.layer|layers)\.": "blocks.",
    r"^layernorm\.": "norm.",
    r"^(cls_)?classifier\.": "head.",
    r"^distillation_classifier\.": "head_dist.",
    **LAYER,
}
# What transformers' models have and the authors' have not.
EPS = {"layer_norm_eps": 1e-12}
GELU = {"hidden_act": "gelu"}
PVT_EPS = {"embedding_norm_eps": 1e-6}


def fused(tensors: Mapping[str, torch.Tensor], parts: tuple[str, ...], whole: str) -> dict[str, torch.Tensor]:
    """Return the tensors with the linear layers `parts` of every attention joined to one layer `whole`."""
    joined, pattern = {}, re.compile(rf"(.*\.attn\.)({'|'.join(parts)})(\.weight|\.bias)")
    for key, tensor in tensors.items():
        match = pattern.fullmatch(key)
        found = [tensors.get(f"{match[1]}{part}{match[3]}") for part in parts] if match else [None]
        if any(part is None or part.shape[1:] != tensor.shape[1:] for part in found):
            joined[key] = tensor
        elif match[2] == parts[0]:
            joined[f"{match[1]}{whole}{match[3]}"] = torch.cat(found)
    return joined


def to_timm(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a ViT or DeiT under timm's keys."""
    return fused(renamed(tensors, ENCODER), ("query", "key", "value"), "qkv")


class TransformersViT(TimmViT):
    """ViT, ViTMSN, and DINO or other ViTs saved as ViT."""

    library = "transformers"
    KEYS = (
        r"(vit\.)?embeddings\.patch_embeddings\.projection\.",
        r"(vit\.)?embeddings\.cls_token$",
        r"(vit\.)?(encoder\.layer|layers)\.0\.layernorm_before\.",
    )
    NOT_KEYS = (r"decoder\.", r"(\w+\.)?embeddings\.distillation_token$", r"(\w+\.)?embeddings\.register_tokens$")
    FIXED = TimmViT.FIXED | EPS
    VARIANTS = {
        f"vit-{name}": vit_fields(*sizes) | TimmViT.FIXED | EPS
        for name, sizes in {
            "base-patch16-224": (768, 12, 12),
            "base-patch32-384": (768, 12, 12, 32),
            "large-patch16-224": (1024, 24, 16),
            "huge-patch14-224-in21k": (1280, 32, 16, 14),
            "tiny-patch16-224": (192, 12, 3),
            "small-patch16-224": (384, 12, 6),
        }.items()
    }
    VARIANTS |= {
        f"vit-msn-{name}": vit_fields(*sizes) | TimmViT.FIXED
        for name, sizes in {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}.items()
    }

    def check(self, tensors):
        pass

    def prepare(self, tensors, fields):
        return {key: value for key, value in to_timm(tensors).items() if key != "embeddings.mask_token"}

    def infer(self, tensors, fields):
        inferred = super().infer(tensors, fields)
        width = size(tensors, "pooler.dense.bias", 0, 1)
        return inferred | ({} if width is None else {"representation_size": width})

    def transforms(self, config):
        return [WeightRenaming(r"^pooler\.dense\.", "model.pooler.representation."), *super().transforms(config)]


class TransformersDeiT(Layout):
    library, system = "transformers", "deit"
    KEYS = (r"(deit\.)?embeddings\.distillation_token$", r"(deit\.)?(encoder\.layer|layers)\.0\.layernorm_before\.")
    FIXED = EPS
    VARIANTS = {
        f"deit-{name}-distilled-patch16-224": vit_fields(*sizes, distilled=True) | EPS
        for name, sizes in {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}.items()
    }

    def rename(self, tensors, fields):
        unused = ("embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias")
        return {key: value for key, value in to_timm(tensors).items() if key not in unused}

    def infer(self, tensors, fields):
        return super().infer(tensors, fields) | {"distillation_head": "head_dist.weight" in tensors}


class TransformersMae(Layout):
    library, system = "transformers", "mae"
    KEYS = (r"decoder\.decoder_embed\.", r"vit\.embeddings\.cls_token$")
    FIXED = EPS | {"position_interpolation": "bicubic"}
    VARIANTS = {f"vit-mae-{name}": mae.VARIANTS[f"mae_vit_{name}_patch16"] | EPS for name in ("base", "large")}
    VARIANTS["vit-mae-huge"] = mae.VARIANTS["mae_vit_huge_patch14"] | EPS

    def rename(self, tensors, fields):
        names = {
            r"^decoder\.mask_token$": "mask_token",
            r"^decoder\.(decoder_encoder\.layer|decoder_layers)\.": "decoder_blocks.",
            r"^decoder\.": "",
        }
        return to_timm(renamed(tensors, names))


class TransformersLevit(Layout):
    library, system = "transformers", "levit"
    KEYS = (r"(levit\.)?patch_embeddings\.embedding_layer_1\.convolution\.",)
    VARIANTS = {f"levit-{name[6:].lower()}": fields for name, fields in levit.VARIANTS.items()}

    def rename(self, tensors, fields):
        tensors = renamed(tensors, {r"^levit\.": ""})
        names, place = {}, 0
        for index in range(4):
            names[rf"^patch_embeddings\.embedding_layer_{index + 1}\."] = f"patch_embed.{2 * index}."
        for stage in range(count(tensors, "encoder.stages.") or 0):
            for layer in range(count(tensors, f"encoder.stages.{stage}.layers.") or 0):
                names[rf"^encoder\.stages\.{stage}\.layers\.{layer}\."] = f"blocks.{place}."
                place += 1
        names |= {
            r"(blocks\.\d+\.)module\.": r"\1m.",
            r"\.queries_keys_values\.": ".qkv.",
            r"\.keys_values\.": ".kv.",
            r"\.queries\.": ".q.1.",
            r"\.projection\.": ".proj.1.",
            r"\.linear_up\.": ".0.",
            r"\.linear_down\.": ".2.",
            r"^classifier_distill\.": "head_dist.",
            r"^classifier\.": "head.",
            r"^(head\w*)\.linear\.": r"\1.l.",
            r"\.(linear|convolution)\.": ".c.",
            r"\.batch_norm\.": ".bn.",
        }
        return renamed(tensors, names)


class TransformersCvt(Layout):
    library, system = "transformers", "cvt"
    KEYS = (r"(cvt\.)?encoder\.stages\.0\.embedding\.convolution_embeddings\.",)
    FIXED = GELU
    VARIANTS = {
        name.replace("-224x224", "").replace("-384x384", "-384"): fields | GELU
        for name, fields in cvt.VARIANTS.items()
    }

    def rename(self, tensors, fields):
        names = {
            r"^(cvt\.)?encoder\.stages\.(\d+)\.": r"stage\2.",
            r"\.embedding\.convolution_embeddings\.projection\.": ".patch_embed.proj.",
            r"\.embedding\.convolution_embeddings\.normalization\.": ".patch_embed.norm.",
            r"\.layers\.": ".blocks.",
        }
        for name in ("query", "key", "value"):
            inner = rf"\.attention\.attention\.convolution_projection_{name}\.convolution_projection\."
            names[rf"{inner}convolution\."] = f".attn.conv_proj_{name[0]}.conv."
            names[rf"{inner}normalization\."] = f".attn.conv_proj_{name[0]}.bn."
            names[rf"\.attention\.attention\.projection_{name}\."] = f".attn.proj_{name[0]}."
        return renamed(tensors, names | LAYER | {r"^layernorm\.": "norm.", r"^classifier\.": "head."})


class TransformersVivit(Layout):
    library, system = "transformers", "vivit"
    KEYS = (r"(vivit\.)?embeddings\.patch_embeddings\.projection\.weight", r"(vivit\.)?embeddings\.cls_token$")
    VARIANTS = {"vivit-b-16x2-kinetics400": vivit.VARIANTS["vivit_base_k400"]}

    def recognises(self, tensors):
        kernels = (tensors.get(f"{prefix}embeddings.patch_embeddings.projection.weight") for prefix in ("vivit.", ""))
        return super().recognises(tensors) and any(kernel is not None and kernel.ndim == 5 for kernel in kernels)

    def prepare(self, tensors, fields):
        attention = "MultiHeadDotProductAttention_0"
        names = {
            r"^vivit\.": "",
            r"^embeddings\.cls_token$": "cls",
            r"^embeddings\.position_embeddings$": "Transformer.posembed_input.pos_embedding",
            r"^embeddings\.patch_embeddings\.projection\.": "embedding.",
            r"^(encoder\.layer|layers)\.(\d+)\.": r"Transformer.encoderblock_\2.",
            r"^layernorm\.": "Transformer.encoder_norm.",
            r"^classifier\.": "output_projection.",
            r"^pooler\.dense\.": "pre_logits.",
        }
        tensors = fused(renamed(tensors, names | LAYER), ("query", "key", "value"), "qkv")
        names = {
            r"\.norm([12])\.": lambda match: f".LayerNorm_{int(match[1]) - 1}.",
            r"\.mlp\.fc([12])\.": lambda match: f".MlpBlock_0.Dense_{int(match[1]) - 1}.",
            r"\.attn\.qkv\.": f".{attention}.qkv.",
            r"\.attn\.proj\.": f".{attention}.projection.",
        }
        return renamed(tensors, names)


class TransformersSwin(Layout):
    library, system = "transformers", "swin"
    KEYS = (
        r"(swin\.)?embeddings\.patch_embeddings\.projection\.",
        r"(swin\.)?encoder\.layers\.0\.blocks\.0\.(attention|layernorm_before)\.",
    )
    VARIANTS = {name.removesuffix("_22kto1k").replace("_", "-"): fields for name, fields in swin.VARIANTS.items()}

    def check(self, tensors):
        if has_key(tensors, r"(swinv2\.)?encoder\.layers\.0\.blocks\.0\.attention\.self\.logit_scale"):
            self.refuse("it is Swin V2, whose attention has a learned temperature")

    def rename(self, tensors, fields):
        names = {
            r"^swin\.": "",
            r"^embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
            r"^embeddings\.position_embeddings$": "absolute_pos_embed",
            r"^embeddings\.norm\.": "patch_embed.norm.",
            r"^encoder\.": "",
            r"\.attention\.(self\.)?(relative_position_bias_table|relative_position_index)$": r".attn.\2",
            r"\.relative_position_bias\.(relative_position_bias_table|relative_position_index)$": r".\1",
            **LAYER,
            r"^layernorm\.": "norm.",
            r"^classifier\.": "head.",
        }
        return fused(renamed(tensors, names), ("query", "key", "value"), "qkv")


class TransformersPvt(Layout):
    library, system = "transformers", "pvt"
    KEYS = (r"(pvt\.)?encoder\.patch_embeddings\.0\.(projection|position_embeddings)",)
    FIXED = PVT_EPS
    VARIANTS = {name.replace("_", "-") + "-224": fields | PVT_EPS for name, fields in pvt.VARIANTS.items()}

    def rename(self, tensors, fields):
        tensors, names = renamed(tensors, {r"^pvt\.": ""}), {}
        for stage in range(count(tensors, "encoder.block.") or 0):
            embedding = rf"^encoder\.patch_embeddings\.{stage}\."
            names |= {
                rf"{embedding}position_embeddings$": f"pos_embed{stage + 1}",
                rf"{embedding}cls_token$": "cls_token",
                rf"{embedding}projection\.": f"patch_embed{stage + 1}.proj.",
                rf"{embedding}layer_norm\.": f"patch_embed{stage + 1}.norm.",
                rf"^encoder\.block\.{stage}\.": f"block{stage + 1}.",
            }
        names |= {
            r"\.attention\.self\.query\.": ".attn.q.",
            r"\.attention\.self\.(key|value)\.": r".attn.\1.",
            r"\.attention\.self\.sequence_reduction\.": ".attn.sr.",
            r"\.attention\.self\.layer_norm\.": ".attn.norm.",
            r"\.attention\.output\.dense\.": ".attn.proj.",
            r"\.layer_norm_([12])\.": r".norm\1.",
            r"\.mlp\.dense([12])\.": r".mlp.fc\1.",
            r"^encoder\.layer_norm\.": "norm.",
            r"^classifier\.": "head.",
        }
        return fused(renamed(tensors, names), ("key", "value"), "kv")


LAYOUTS = [
    TransformersViT(),
    TransformersDeiT(),
    TransformersMae(),
    TransformersLevit(),
    TransformersCvt(),
    TransformersVivit(),
    TransformersSwin(),
    TransformersPvt(),
]
