"""zejiangh/MILAN (.pth) to `MILANForPreTraining`, its fine-tuned models to `ViTForImageClassification`, and CLIP.

Variants have the names of its factory functions: `mae_vit_*` (models_milan.py) with the decoder, `vit_*`
(models_vit.py, models_probe.py) without it. A file of models_mae.py, whose decoder is the ordinary one, needs
`decoder_type="ordinary"`. `clip_vit_*` convert the image tower of openai/CLIP, which is the target network, to
transformers' own class; its files are TorchScript archives.
"""

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, PreTrainedModel
from transformers.core_model_loading import Chunk, Transpose, WeightConverter, WeightRenaming

from hf_vits.models.vit.modeling_vit import ViTForImageClassification
from hf_vits.pretraining.milan.configuration_milan import MILANConfig
from hf_vits.pretraining.milan.modeling_milan import MILANForPreTraining

from ..shared.inference import count, found, size
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import infer_image_size, infer_vit, vit_renamings
from . import mae

# hidden_size, num_hidden_layers, num_attention_heads, patch_size
SIZES = {"small": (384, 12, 6, 16), **mae.SIZES}
MODEL_TYPE = {"model_type": "hf_vits_vit"}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def clip_fields(*sizes: int, projection_dim: int, image_size: int = 224) -> dict:
    """Return the fields of an image tower of CLIP, whose channels per head are always 64."""
    hidden_size, num_hidden_layers, patch_size = sizes
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": hidden_size // 64,
        "intermediate_size": 4 * hidden_size,
        "patch_size": patch_size,
        "projection_dim": projection_dim,
        "image_size": image_size,
        "hidden_act": "quick_gelu",
    }


VARIANTS = {
    **{
        f"mae_vit_{name}_patch{sizes[-1]}": {"backbone_config": MODEL_TYPE | mae.encoder_fields(*sizes)} | mae.DECODER
        for name, sizes in SIZES.items()
    },
    **{
        f"vit_{name}_patch{sizes[-1]}": mae.encoder_fields(*sizes) | {"num_labels": 1000}
        for name, sizes in SIZES.items()
    },
    "vit_large_patch14": mae.encoder_fields(1024, 24, 16, 14) | {"num_labels": 1000},
    "clip_vit_base_patch32": clip_fields(768, 12, 32, projection_dim=512),
    "clip_vit_base_patch16": clip_fields(768, 12, 16, projection_dim=512),
    "clip_vit_large_patch14": clip_fields(1024, 24, 14, projection_dim=768),
    "clip_vit_large_patch14_336": clip_fields(1024, 24, 14, projection_dim=768, image_size=336),
}


def has_decoder(fields: dict) -> bool:
    return "backbone_config" in fields


def is_clip(fields: dict) -> bool:
    return "projection_dim" in fields


def model_class(fields: dict) -> type[PreTrainedModel]:
    if is_clip(fields):
        return CLIPVisionModelWithProjection
    return MILANForPreTraining if has_decoder(fields) else ViTForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the image tower of CLIP without the text tower; otherwise as for MAE."""
    if is_clip(fields):
        tower = {key: value for key, value in tensors.items() if key.startswith("visual.")}
        return tower or tensors
    return tensors if has_decoder(fields) else mae.prepare(tensors, fields)


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    if is_clip(fields):
        return infer_clip(tensors)
    if not has_decoder(fields):
        return mae.infer(tensors, fields)
    backbone = infer_vit(tensors)
    backbone |= infer_image_size(tensors, "", 1, backbone.get("patch_size", fields["backbone_config"]["patch_size"]))
    inferred = {"backbone_config": backbone} | found(
        decoder_hidden_size=size(tensors, "decoder_embed.weight", 0, 2),
        decoder_num_hidden_layers=count(tensors, "decoder_blocks."),
        decoder_intermediate_size=size(tensors, "decoder_blocks.0.mlp.fc1.weight", 0, 2),
    )
    output_size, patch = size(tensors, "decoder_pred.weight", 0, 2), tensors.get("patch_embed.proj.weight")
    if fields.get("target") == "pixels" or output_size is None:
        return inferred
    if fields.get("decoder_type") != "ordinary" and patch is not None and output_size == patch[0].numel():
        return inferred | {"target": "pixels"}  # features have 512 channels with this decoder
    return inferred | {"target_size": output_size}


def infer_clip(tensors: dict[str, torch.Tensor]) -> dict:
    hidden_size, patch_size = (size(tensors, "visual.conv1.weight", axis, 4) for axis in (0, 3))
    positions = size(tensors, "visual.positional_embedding", 0, 2)
    return found(
        hidden_size=hidden_size,
        num_attention_heads=None if hidden_size is None else max(hidden_size // 64, 1),
        num_hidden_layers=count(tensors, "visual.transformer.resblocks."),
        intermediate_size=size(tensors, "visual.transformer.resblocks.0.mlp.c_fc.weight", 0, 2),
        num_channels=size(tensors, "visual.conv1.weight", 1, 4),
        patch_size=patch_size,
        projection_dim=size(tensors, "visual.proj", 1, 2),
        image_size=None if None in (positions, patch_size) else round((positions - 1) ** 0.5) * patch_size,
    )


def transforms(config: MILANConfig) -> list:
    if isinstance(config, CLIPVisionConfig):
        return clip_transforms()
    if not isinstance(config, MILANConfig):
        return mae.transforms(config)
    renamings = {
        "^mask_token$": "decoder.mask_token",
        "^decoder_pos_embed$": "decoder.position_embedding.table",
        r"^decoder_embed\.": "decoder.embedding.",
        r"^decoder_blocks\.": "decoder.layers.",
        r"\.attn\.q\.": ".attention.query.",
        r"\.attn\.kv\.": ".attention.key_value.",
        r"^decoder_norm\.": "decoder.norm.",
        r"^decoder_pred\.": "decoder.prediction.",
    }
    return [*(WeightRenaming(old, new) for old, new in renamings.items()), *vit_renamings("encoder.")]


def clip_transforms() -> list:
    renamings = {
        r"^visual\.class_embedding$": "vision_model.embeddings.class_embedding",
        r"^visual\.positional_embedding$": "vision_model.embeddings.position_embedding.weight",
        r"^visual\.conv1\.": "vision_model.embeddings.patch_embedding.",
        r"^visual\.ln_pre\.": "vision_model.pre_layrnorm.",
        r"^visual\.ln_post\.": "vision_model.post_layernorm.",
        r"^visual\.transformer\.resblocks\.": "vision_model.encoder.layers.",
        r"\.ln_([12])\.": r".layer_norm\1.",
        r"\.mlp\.c_fc\.": ".mlp.fc1.",
        r"\.mlp\.c_proj\.": ".mlp.fc2.",
        r"\.attn\.out_proj\.": ".self_attn.out_proj.",
    }
    split = [
        WeightConverter([f".attn.in_proj_{kind}"], [f".self_attn.{part}_proj.{kind}" for part in "qkv"], [Chunk(0)])
        for kind in ("weight", "bias")
    ]
    projection = WeightConverter(["visual.proj"], ["visual_projection.weight"], [Transpose(0, 1)])
    return [*(WeightRenaming(old, new) for old, new in renamings.items()), *split, projection]


def processor(variant: str, config: MILANConfig) -> dict:
    """Return MAE's preprocessing, or for CLIP its own: clip/clip.py, `_transform`.

    As a target network CLIP sees the images of the encoder, with ImageNet's mean and deviation.
    """
    if isinstance(config, CLIPVisionConfig):
        return resize_and_crop(config.image_size, 1.0, CLIP_MEAN, CLIP_STD)
    return mae.processor(variant, getattr(config, "backbone_config", config))
