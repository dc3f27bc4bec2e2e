"""facebookresearch/mae (.pth) to `MAEForPreTraining`, and what is fine-tuned from it to `ViTForImageClassification`.

Variants have the names of its factory functions: `mae_vit_*` (models_mae.py) with the decoder, `vit_*` (models_vit.py)
without it.
"""

import torch
from transformers import ViTMAEConfig as TransformersViTMAEConfig
from transformers import ViTMAEForPreTraining as TransformersViTMAEForPreTraining
from transformers.core_model_loading import WeightRenaming, WeightTransform

from hf_vits.layers.patch import pair
from hf_vits.models.vit.modeling_vit import ViTForImageClassification
from hf_vits.pretraining.mae.configuration_mae import MAEConfig
from hf_vits.pretraining.mae.modeling_mae import MAEForPreTraining

from ..core import build
from ..shared.inference import count, found, size
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import infer_vit, vit_renamings
from ..shared.transformers_layout import check_expressible, our_class, read_theirs, write_theirs
from ..shared.transformers_vit import SHARED_FIELDS, their_fields, vit_layout

# hidden_size, num_hidden_layers, num_attention_heads, patch_size
SIZES = {"base": (768, 12, 12, 16), "large": (1024, 24, 16, 16), "huge": (1280, 32, 16, 14)}
PROBE_EPSILON = 1e-6  # of the batch norm in a linear probe's head


def encoder_fields(hidden_size: int, num_hidden_layers: int, num_attention_heads: int, patch_size: int) -> dict:
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": 4 * hidden_size,
        "patch_size": patch_size,
        "encoder_stride": patch_size,
        "hidden_act": "gelu",
        "position_interpolation": "bicubic",
    }


DECODER = {
    "decoder_hidden_size": 512,
    "decoder_num_hidden_layers": 8,
    "decoder_num_attention_heads": 16,
    "decoder_intermediate_size": 2048,
}
VARIANTS = {
    **{f"mae_vit_{name}_patch{sizes[-1]}": encoder_fields(*sizes) | DECODER for name, sizes in SIZES.items()},
    **{f"vit_{name}_patch{sizes[-1]}": encoder_fields(*sizes) | {"num_labels": 1000} for name, sizes in SIZES.items()},
}


def has_decoder(fields: dict) -> bool:
    return "decoder_hidden_size" in fields


def model_class(fields: dict) -> type[MAEForPreTraining] | type[ViTForImageClassification]:
    return MAEForPreTraining if has_decoder(fields) else ViTForImageClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Without the decoder, where the variant has none, and with a linear probe's batch norm inside its classifier."""
    if has_decoder(fields):
        return tensors
    tensors = {key: value for key, value in tensors.items() if not key.startswith(("decoder_", "mask_token"))}
    return fold_probe(tensors) if "head.0.running_mean" in tensors else tensors


def fold_probe(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`head.0`, a batch norm without parameters of its own, put into the linear layer after it, `head.1`."""
    kept = {key: value for key, value in tensors.items() if not key.startswith("head.")}
    scale = (tensors["head.0.running_var"] + PROBE_EPSILON).rsqrt()
    weight = tensors["head.1.weight"] * scale
    return kept | {
        "head.weight": weight,
        "head.bias": tensors["head.1.bias"] - weight @ tensors["head.0.running_mean"],
    }


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = infer_vit(tensors)
    if num_positions := size(tensors, "pos_embed", 1, 3):
        patch_size = inferred.get("patch_size", fields["patch_size"])
        inferred["image_size"] = round(max(num_positions - 1, 0) ** 0.5) * pair(patch_size)[0]
    if has_decoder(fields):
        return inferred | found(
            decoder_hidden_size=size(tensors, "decoder_embed.weight", 0, 2),
            decoder_num_hidden_layers=count(tensors, "decoder_blocks."),
            decoder_intermediate_size=size(tensors, "decoder_blocks.0.mlp.fc1.weight", 0, 2),
        )
    inferred["num_labels"] = len(tensors["head.bias"]) if "head.bias" in tensors else 0
    if "fc_norm.weight" in tensors:  # fine-tuned on the mean of the patches
        inferred |= {"pooling": "mean", "norm_after_pooling": True}
    return inferred


def transforms(config: MAEConfig) -> list:
    renamings = {
        "^mask_token$": "decoder.mask_token",
        "^decoder_pos_embed$": "decoder.position_embedding.table",
        r"^decoder_embed\.": "decoder.embedding.",
        r"^decoder_blocks\.": "decoder.layers.",
        r"^decoder_norm\.": "decoder.norm.",
        r"^decoder_pred\.": "decoder.prediction.",
        r"^fc_norm\.": "model.pooler.norm.",
        r"^head\.": "classifier.",
    }
    return [*(WeightRenaming(old, new) for old, new in renamings.items()), *vit_renamings("model.")]


def processor(variant: str, config: MAEConfig) -> dict:
    """util/datasets.py, `build_transform`: short side to 256 / 224 of the size, bicubic; no crop above 224."""
    return resize_and_crop(config.image_size, 224 / 256 if max(pair(config.image_size)) <= 224 else 1.0)


# transformers' own ViTMAE

DECODER_FIELDS = (*DECODER, "mask_ratio")
THEIR_FIELDS = tuple(name for name in SHARED_FIELDS if name != "encoder_stride")


def from_transformers(model):
    """`ViTMAEForPreTraining` of transformers, as ours."""
    our_class(model, {MAEForPreTraining: TransformersViTMAEForPreTraining})
    theirs = model.config
    fields = {name: getattr(theirs, name) for name in (*THEIR_FIELDS, *DECODER_FIELDS)}
    fields |= {"position_interpolation": "bicubic", "normalize_targets": theirs.norm_pix_loss}
    return read_theirs(build(MAEForPreTraining, fields), model, mae_layout())


def to_transformers(model):
    """A `MAEForPreTraining` of ours, as transformers' own `ViTMAEForPreTraining`."""
    config = model.config
    check_expressible(config, {"use_class_token": True, "layer_scale_init_value": None})
    fields = their_fields(config) | {name: getattr(config, name) for name in DECODER_FIELDS}
    fields = {name: fields[name] for name in (*THEIR_FIELDS, *DECODER_FIELDS)}
    theirs = TransformersViTMAEConfig(**fields, norm_pix_loss=config.normalize_targets)
    return write_theirs(model, TransformersViTMAEForPreTraining(theirs), mae_layout())


def mae_layout() -> list[WeightTransform]:
    return [
        WeightRenaming("decoder.decoder_embed.", "decoder.embedding."),
        WeightRenaming("decoder.decoder_pos_embed", "decoder.position_embedding.table"),
        WeightRenaming("decoder.decoder_layers.", "decoder.layers."),
        WeightRenaming("decoder.decoder_norm.", "decoder.norm."),
        WeightRenaming("decoder.decoder_pred.", "decoder.prediction."),
        *vit_layout("vit"),
    ]
