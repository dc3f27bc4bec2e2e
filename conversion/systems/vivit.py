"""google-research/scenic, projects/vivit (Flax msgpack) to `VivitForVideoClassification`, and transformers' Vivit.

Variants are named after its configuration files; models 3 and 4 of the paper have neither files nor weights. Read from
the file: classes, tubelets, size and length of the clips. For another `image_size` or `num_frames`, position tables
are resized along height, width and time, as the original does along height and width for a factorised encoder.
"""

import math

import torch
from transformers import VivitConfig as TransformersVivitConfig
from transformers import VivitForVideoClassification as TransformersVivitForVideoClassification
from transformers import VivitModel as TransformersVivitModel
from transformers.core_model_loading import WeightRenaming, WeightTransform

from hf_vits.configuration import pair
from hf_vits.models.vivit.attention_vivit import space_time_attention_state, time_attention_state
from hf_vits.models.vivit.configuration_vivit import VivitConfig
from hf_vits.models.vivit.modeling_vivit import VivitForVideoClassification, VivitModel
from hf_vits.processing.video import VitsVideoProcessor

from ..shared.flax import infer_flax_heads, torch_layout
from ..shared.inference import count, found, num_labels, size
from ..shared.preprocessing import scenic_clips
from ..shared.transformers_layout import check_expressible, copy_fields, our_class, read_theirs
from ..shared.transformers_vit import ENCODER_FIELDS, encoder_layout, representation_size, write_encoder

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
ENCODER = {"attention_type": "factorized_encoder"}
LARGE_ENCODER = LARGE | ENCODER
K400 = {"num_labels": 400}

VARIANTS = {
    "vivit_base_k400": K400,
    "vivit_base_factorised_encoder_k400": ENCODER | K400,
    "vivit_base_factorised_self_attention_k400": {
        "attention_type": "factorized_self_attention",
        "pooling": "mean",
        **K400,
    },
    "vivit_base_factorised_dot_product_k400": {"attention_type": "factorized_dot_product", "pooling": "mean", **K400},
    "vivit_large_factorised_encoder_k400": LARGE_ENCODER | {"num_temporal_layers": 24, **K400},
    "vivit_large_factorised_encoder_k600": LARGE_ENCODER | {"num_temporal_layers": 24, "num_labels": 600},
    # Nouns, then verbs.
    "vivit_large_factorised_encoder_epic_kitchens": LARGE_ENCODER
    | {"drop_path_rate": 0.2, "head_sizes": [300, 97], "num_labels": 397},
    "vivit_large_factorised_encoder_ssv2": LARGE_ENCODER
    | {"drop_path_rate": 0.3, "image_size": 256, "num_labels": 174},
}
# (frames, side in pixels) of published models, tried first for the number of rows of a position table
PUBLISHED_CLIPS = ((32, 224), (32, 256))
ATTENTION = "MultiHeadDotProductAttention_"


def model_class(fields: dict) -> type[VivitForVideoClassification]:
    return VivitForVideoClassification


def prepare(tensors: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Convert to torch's layout and join queries, keys and values as our attention of this type has them."""
    tensors = torch_layout(tensors)
    if "embedding.weight" in tensors and tensors["embedding.weight"].ndim == 4:
        tensors["embedding.weight"] = tensors["embedding.weight"].unsqueeze(2)
    prepared, attentions = {}, {}
    for key, tensor in tensors.items():
        layer, found, rest = key.rpartition(f".{ATTENTION}")
        if found:
            axis, rest = rest.split(".", 1)
            attentions.setdefault(f"{layer}.{ATTENTION}{axis}", {})[rest] = tensor
        else:
            prepared[key] = tensor
    for name, state in attentions.items():
        state = own_layout(name, fuse_projections(state), fields)
        prepared |= {f"{name}.{key}": tensor for key, tensor in state.items()}
    return prepared


def fuse_projections(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return an attention's {key: tensor} with query, key and value joined to `qkv`, if their shapes agree."""
    fused = {key.replace("out.", "projection."): value for key, value in state.items()}
    for kind in ("weight", "bias"):
        names = [f"{part}.{kind}" for part in ("query", "key", "value")]
        shapes = {fused[name].shape for name in names if name in fused}
        if all(name in fused for name in names) and len(shapes) == 1 and shapes != {()}:
            fused[f"qkv.{kind}"] = torch.cat([fused.pop(name) for name in names])
    return fused


def own_layout(name: str, state: dict[str, torch.Tensor], fields: dict) -> dict[str, torch.Tensor]:
    """Return the state in the layout of our attention `name`; unchanged if its width is no multiple of the heads."""
    num_heads = fields.get("num_attention_heads", VivitConfig.num_attention_heads)
    if any(len(value) % (3 * num_heads) for key, value in state.items() if key.startswith("qkv.")):
        return state
    if name.endswith("_time"):
        return time_attention_state(state, num_heads)
    if fields.get("attention_type") == "factorized_dot_product":
        return space_time_attention_state(state, num_heads)
    return state


def infer_original(tensors: dict[str, torch.Tensor]) -> dict:
    """Return the number of heads, an axis of the kernels in the file."""
    return infer_flax_heads(tensors)


def infer(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    inferred = {
        "num_labels": num_labels(tensors, "output_projection.bias"),
        "representation_size": size(tensors, "pre_logits.bias", 0, 1),
    }
    encoder = "SpatialTransformer." if count(tensors, "SpatialTransformer.encoderblock_") else "Transformer."
    layer = f"{encoder}encoderblock_0."
    inferred |= found(
        hidden_size=size(tensors, f"{encoder}encoder_norm.weight", 0, 1),
        num_hidden_layers=count(tensors, f"{encoder}encoderblock_"),
        num_temporal_layers=count(tensors, "TemporalTransformer.encoderblock_"),
        intermediate_size=size(tensors, f"{layer}MlpBlock_0.Dense_0.weight", 0, 2)
        or size(tensors, f"{layer}MlpBlock.Dense_0.weight", 0, 2),
        num_channels=size(tensors, "embedding.weight", 1, 5),
        attention_type=infer_attention(tensors),
    )
    if inferred["num_labels"] != sum(fields.get("head_sizes") or ()):
        inferred["head_sizes"] = None
    if size(tensors, "embedding.weight", 2, 5):
        inferred["tubelet_size"] = list(tensors["embedding.weight"].shape[2:])
    return inferred | infer_clip(tensors, fields | inferred)


def infer_attention(tensors: dict[str, torch.Tensor]) -> str | None:
    """Return the attention type of the paper's models 2 and 3; None for models 1 and 4, whose keys are the same."""
    if any(key.startswith("SpatialTransformer.") for key in tensors):
        return "factorized_encoder"
    return "factorized_self_attention" if any(f".{ATTENTION}time." in key for key in tensors) else None


def infer_clip(tensors: dict[str, torch.Tensor], fields: dict) -> dict:
    """Return image size and number of frames of the file's position tables, where the configuration has others."""
    fields = {
        name: fields.get(name, getattr(VivitConfig, name)) for name in ("image_size", "num_frames", "tubelet_size")
    }
    depth, *patch_size = fields["tubelet_size"]
    sides = [size // patch for size, patch in zip(pair(fields["image_size"]), patch_size, strict=True)]
    frames, inferred = fields["num_frames"] // depth, {}
    rows, temporal_rows = table_rows(tensors, ""), table_rows(tensors, "Temporal")
    if table_rows(tensors, "Spatial"):
        rows, frames = table_rows(tensors, "Spatial"), 1
        if temporal_rows and temporal_rows != fields["num_frames"] // depth:
            inferred["num_frames"] = temporal_rows * depth
    if not rows or rows == frames * math.prod(sides):
        return inferred
    for num_frames, pixels in PUBLISHED_CLIPS if frames > 1 else ():
        if rows == num_frames // depth * (pixels // patch_size[0]) * (pixels // patch_size[1]):
            return {"num_frames": num_frames, "image_size": pixels}
    side = math.isqrt(rows // frames)
    if frames * side**2 == rows and patch_size[0] == patch_size[1]:
        inferred["image_size"] = side * patch_size[0]
    elif rows % math.prod(sides) == 0:
        inferred["num_frames"] = rows // math.prod(sides) * depth
    return inferred


def table_rows(tensors: dict[str, torch.Tensor], encoder: str) -> int:
    """Return the number of rows of an encoder's position table, without the class token's; 0 without a table."""
    table = tensors.get(f"{encoder}Transformer.posembed_input.pos_embedding")
    token = f"cls_{encoder}Transformer" if encoder else "cls"
    return 0 if table is None or table.ndim != 3 else table.shape[1] - (token in tensors)


def transforms(config: VivitConfig) -> list:
    renamings = {
        r"^embedding\.": "model.embeddings.tubelet_embedding.projection.",
        r"^cls$": "model.encoder.class_token",
    }
    for theirs, ours in {"Temporal": "temporal_encoder", "Spatial": "encoder", "": "encoder"}.items():
        renamings |= {
            rf"^cls_{theirs}Transformer$": f"model.{ours}.class_token",
            rf"^{theirs}Transformer\.posembed_input\.pos_embedding$": f"model.{ours}.position_embedding.table",
            rf"^{theirs}Transformer\.encoderblock_(\d+)\.": rf"model.{ours}.layers.\1.",
            rf"^{theirs}Transformer\.encoder_norm\.": f"model.{ours}.norm.",
        }
    renamings |= {
        r"^pre_logits\.": "model.pooler.representation.",
        r"^output_projection\.": "classifier.",
        r"\.LayerNorm_0\.": ".attention_norm.",
        r"\.LayerNorm_1\.": ".mlp_norm.",
        r"\.LayerNorm_(time|space|mlp)\.": r".\1_norm.",
        r"\.MlpBlock(_0)?\.Dense_0\.": ".mlp.up.",
        r"\.MlpBlock(_0)?\.Dense_1\.": ".mlp.down.",
        rf"\.{ATTENTION}0\.": ".attention.",
        rf"\.{ATTENTION}(time|space)\.": r".\1_attention.",
    }
    return [WeightRenaming(old, new) for old, new in renamings.items()]


def processor(variant: str, config: VivitConfig) -> VitsVideoProcessor:
    """Return Scenic's preprocessing: every second frame of Kinetics, else every frame; short side = crop + 32."""
    sampling_rate = 2 if variant.endswith(("_k400", "_k600")) else 1
    return scenic_clips(config.image_size, config.num_frames, sampling_rate, min(pair(config.image_size)) + 32)


# transformers' own Vivit, which is model 1

TRANSFORMERS_CLASSES = {
    VivitModel: TransformersVivitModel,
    VivitForVideoClassification: TransformersVivitForVideoClassification,
}
SHARED_FIELDS = (*ENCODER_FIELDS, "num_frames", "tubelet_size")
# The values that our fields must have, since transformers' Vivit has no such option.
PLAIN = {"attention_type": "spacetime", "pooling": "token", "num_sampled_frames": None, "head_sizes": None}


def layout() -> list[WeightTransform]:
    """Return the transforms from keys of transformers' Vivit to ours; they can be reversed."""
    return [
        WeightRenaming("vivit.embeddings.patch_embeddings.", "model.embeddings.tubelet_embedding."),
        WeightRenaming("vivit.embeddings.position_embeddings", "model.encoder.position_embedding.table"),
        WeightRenaming("vivit.embeddings.cls_token", "model.encoder.class_token"),
        *encoder_layout("vivit", "model.encoder."),
    ]


def from_transformers(model):
    """Return our model for a `VivitModel` or `VivitForVideoClassification` of transformers."""
    model_class = our_class(model, TRANSFORMERS_CLASSES)
    fields = copy_fields(model.config, SHARED_FIELDS) | {"representation_size": representation_size(model)}
    if fields["hidden_act"] == "gelu_fast":  # the same function, not fused
        fields["hidden_act"] = "gelu_pytorch_tanh"
    return read_theirs(model, model_class, fields, layout())


def to_transformers(model):
    """Return transformers' model for our `VivitModel` or `VivitForVideoClassification`."""
    check_expressible(model.config, PLAIN)
    fields = copy_fields(model.config, SHARED_FIELDS)
    return write_encoder(model, TRANSFORMERS_CLASSES, TransformersVivitConfig, fields, layout())
