"""facebookresearch/mae (.pth) to `MAEForPreTraining`, and its fine-tuned models to `ViTForImageClassification`.

Variants have the names of its factory functions: `mae_vit_*` (models_mae.py) with the decoder, `vit_*` (models_vit.py)
without it.
"""

import torch
from transformers import ViTMAEConfig as TransformersViTMAEConfig
from transformers import ViTMAEForPreTraining as TransformersViTMAEForPreTraining
from transformers.core_model_loading import WeightRenaming, WeightTransform

from hf_vits.configuration import pair
from hf_vits.models.vit.modeling_vit import ViTForImageClassification
from hf_vits.pretraining.mae.configuration_mae import MAEConfig
from hf_vits.pretraining.mae.modeling_mae import MAEForPreTraining

from ..shared.inference import count, found, num_labels, size
from ..shared.preprocessing import resize_and_crop
from ..shared.timm_vit import infer_image_size, infer_vit, vit_fields, vit_renamings
from ..shared.transformers_layout import check_expressible, copy_fields, our_class, read_theirs, write_theirs
from ..shared.transformers_vit import ENCODER_FIELDS, their_fields, vit_layout

# hidden_size, num_hidden_layers, num_attention_heads, patch_size
SIZES = {"base": (768, 12, 12, 16), "large": (1024, 24, 16, 16), "huge": (1280, 32, 16, 14)}
PROBE_EPSILON = 1e-6  # epsilon of the batch norm in a linear probe's head


def encoder_fields(*sizes: int) -> dict:
    return vit_fields(*sizes, hidden_act="gelu", position_interpolation="bicubic")


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
    """Drop the decoder if the variant has none; fold a linear probe's batch norm into its classifier.

    With the field norm_after_pooling a pretrained encoder's last norm is replaced by a new one, as fine-tuning starts.
    """
    if has_decoder(fields):
        return tensors
    tensors = {key: value for key, value in tensors.items() if not key.startswith(("decoder_", "mask_token"))}
    if fields.get("norm_after_pooling") and "norm.weight" in tensors and "fc_norm.weight" not in tensors:
        scale, shift = tensors["norm.weight"], tensors["norm.bias"]
        tensors = {key: value for key, value in tensors.items() if not key.startswith("norm.")}
        tensors |= {"fc_norm.weight": torch.ones_like(scale), "fc_norm.bias": torch.zeros_like(shift)}
    return fold_probe(tensors) if "head.0.running_mean" in tensors else tensors


def fold_probe(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Fold `head.0`, a batch norm without learned parameters, into the linear layer `head.1` after it."""
    kept = {key: value for key, value in tensors.items() if not key.startswith("head.")}
    scale = (tensors["head.0.running_var"] + PROBE_EPSILON).rsqrt()
    weight = tensors["head.1.weight"] * scale
    return kept | {
        "head.weight": weight,
        "head.bias": tensors["head.1.bias"] - weight @ tensors["head.0.running_mean"],
    }


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = infer_vit(tensors)
    inferred |= infer_image_size(tensors, "", 1, inferred.get("patch_size", fields["patch_size"]))
    if has_decoder(fields):
        return inferred | found(
            decoder_hidden_size=size(tensors, "decoder_embed.weight", 0, 2),
            decoder_num_hidden_layers=count(tensors, "decoder_blocks."),
            decoder_intermediate_size=size(tensors, "decoder_blocks.0.mlp.fc1.weight", 0, 2),
        )
    inferred["num_labels"] = num_labels(tensors)
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
    """Return the preprocessing of util/datasets.py, `build_transform`: short side to 256 / 224 of the size, bicubic.

    Above 224 pixels the crop ratio is 1.
    """
    return resize_and_crop(config.image_size, 224 / 256 if max(pair(config.image_size)) <= 224 else 1.0)


# transformers' own ViTMAE

SHARED_FIELDS = (*ENCODER_FIELDS, "patch_size", *DECODER, "mask_ratio")


def from_transformers(model):
    """Return our `MAEForPreTraining` for a `ViTMAEForPreTraining` of transformers."""
    model_class, theirs = our_class(model, {MAEForPreTraining: TransformersViTMAEForPreTraining}), model.config
    fields = copy_fields(theirs, SHARED_FIELDS)
    fields |= {"position_interpolation": "bicubic", "normalize_targets": theirs.norm_pix_loss}
    return read_theirs(model, model_class, fields, mae_layout())


def to_transformers(model):
    """Return transformers' `ViTMAEForPreTraining` for our `MAEForPreTraining`."""
    config = model.config
    check_expressible(config, {"use_class_token": True, "layer_scale_init_value": None})
    fields = copy_fields(config, SHARED_FIELDS) | {
        name: value for name, value in their_fields(config).items() if name in SHARED_FIELDS
    }
    theirs = TransformersViTMAEConfig(**fields, norm_pix_loss=config.normalize_targets)
    return write_theirs(model, TransformersViTMAEForPreTraining, theirs, mae_layout())


def mae_layout() -> list[WeightTransform]:
    """Return the transforms from keys of transformers' ViTMAE to ours; they can be reversed."""
    renamings = {
        "decoder.decoder_embed.": "decoder.embedding.",
        "decoder.decoder_pos_embed": "decoder.position_embedding.table",
        "decoder.decoder_layers.": "decoder.layers.",
        "decoder.decoder_norm.": "decoder.norm.",
        "decoder.decoder_pred.": "decoder.prediction.",
    }
    return [*(WeightRenaming(old, new) for old, new in renamings.items()), *vit_layout("vit")]
