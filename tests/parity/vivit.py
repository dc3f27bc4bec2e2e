"""Golden cases of google-research/scenic, projects/vivit: forward passes, initialisation, and losses of two heads."""

import numpy as np
import torch

from hf_vits.conversion import convert
from hf_vits.layers.label_heads import joint_labels, joint_scores
from hf_vits.models.vivit.modeling_vivit import VivitForVideoClassification
from hf_vits.objectives import MultiHeadCrossEntropy

from .golden import Case, Config
from .record import recording

ATTENTION_TYPES = {
    "spacetime": "spacetime",
    "factorized_encoder": "factorized_encoder",
    "factorized_self_attention_block": "factorized_self_attention",
    "factorized_dot_product_attention": "factorized_dot_product",
}
POOLING = {"token": "token", "0": "first", "gap": "mean", "gmp": "max", "gsp": "sum"}
INFLATION = {
    "central_frame_initializer": "central_frame",
    "average_frame_initializer": "average",
    "average_arp_frame_initializer": "rank_pooling",
}


def compute(case: Case) -> dict[str, torch.Tensor]:
    if "class_splits" in case.config:
        return compute_heads(case)
    checkpoint = case.checkpoint()
    if "kernel_init_method" in case.config:
        model = initialized(case, checkpoint)
    else:
        model = convert("vivit", "vivit_base_k400", checkpoint, **overrides(case.config))
    check(case.config, model.config)
    return outputs(case, model) | parameters(model)


def overrides(config: Config, clip: str = "clip", classifier: str = "classifier") -> dict:
    """What no tensor records of a network.

    Args:
        clip, classifier: names of the fields that say the size of its input and its kind of pooling.
    """
    frames, height, width = config[clip]
    return {
        "attention_type": ATTENTION_TYPES[config["attention_type"]],
        "attention_order": config["attention_order"] or "time_space",
        "num_sampled_frames": config["n_sampled_frames"],
        "num_frames": frames,
        "image_size": [height, width],
        "num_attention_heads": config["num_heads"],
        "layer_norm_eps": config["layer_norm_eps"],
        "pooling": POOLING[config[classifier]],
    }


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    depth, *sides = built.tubelet_size
    is_sampled = built.num_sampled_frames is not None
    config.check(
        patch_size=sides if is_sampled else [*sides, depth],
        temporal_encoding="temporal_sampling" if is_sampled else "3d_conv",
        hidden_size=built.hidden_size,
        mlp_dim=built.intermediate_size,
        num_layers=built.num_hidden_layers,
        spatial_num_layers=built.num_hidden_layers,
        temporal_num_layers=built.num_temporal_layers,
        representation_size=built.representation_size,
        num_classes=built.num_labels,
        activation={"gelu_pytorch_tanh": "gelu tanh approximation"}[built.hidden_act],
    )


def initialized(case: Case, checkpoint: dict[str, np.ndarray]) -> VivitForVideoClassification:
    """The case's network with the tensors below init/, then started from those below image/."""
    below = {
        name: {key.removeprefix(f"{name}/"): value for key, value in checkpoint.items() if key.startswith(f"{name}/")}
        for name in ("image", "init")
    }
    config = case.config
    model = convert("vivit", "vivit_base_k400", below["init"], **overrides(config))
    options = {"positions": config["positional_embed_size_change"]}
    if config["source_clip"] is not None:
        config.unused("kernel_init_method", "source_image_size")  # of images, which give way to a clip
        fields = overrides(config, "source_clip", "source_classifier")
        source = convert("vivit", "vivit_base_k400", below["image"], **fields)
    else:
        options["inflation"] = INFLATION[config["kernel_init_method"]]
        source = convert("vit", "ViT-B_16", below["image"], **image_overrides(config))
    model.initialize_from(source, **options)
    return model


def image_overrides(config: Config) -> dict:
    has_token = config["source_classifier"] == "token"
    return {
        "num_attention_heads": config["num_heads"],
        "image_size": config["source_image_size"],
        "use_class_token": has_token,
        "pooling": "token" if has_token else "mean",
    }


def outputs(case: Case, model: VivitForVideoClassification) -> dict[str, torch.Tensor]:
    """What the network computes, under the names of the original's modules."""
    encoders = {"Transformer": model.model.encoder}
    if model.model.temporal_encoder is not None:
        encoders = {"SpatialTransformer": model.model.encoder, "TemporalTransformer": model.model.temporal_encoder}
    modules = {"embedding": model.model.embeddings}
    if model.model.pooler.representation is not None:
        modules["pooled"] = model.model.pooler.representation  # before tanh
    for name, encoder in encoders.items():
        modules[f"{name}/input"] = encoder
        modules[f"{name}/encoder_norm"] = encoder.norm
        modules |= {f"{name}/encoderblock_{index}": layer for index, layer in enumerate(encoder.layers)}
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"]).permute(0, 1, 4, 2, 3)
    with recording(modules) as seen:
        logits = model(pixel_values).logits
        encoded = model.model(pixel_values)
    computed = {"pooled": encoded.pooler_output, "logits": logits, **seen}
    if "TemporalTransformer" in encoders:
        computed["TemporalTransformer/input"] = temporal_input(model, seen["SpatialTransformer/encoder_norm"])
    # The original's layers and ours keep the axes of time and space apart, or not, as it suits them.
    for name, described in case.meta["outputs"].items():
        shape = case.meta.get("cuts", {}).get(name, {}).get("full_shape", described["shape"])
        if name in computed:
            computed[name] = computed[name].reshape(shape)
    return computed


def temporal_input(model: VivitForVideoClassification, frames: torch.Tensor) -> torch.Tensor:
    """The class token, without its position, and the vectors of the frames."""
    vectors = {
        "token": lambda tokens: tokens[:, :, 0],
        "first": lambda tokens: tokens[:, :, 0],
        "mean": lambda tokens: tokens.mean(2),
        "max": lambda tokens: tokens.amax(2),
        "sum": lambda tokens: tokens.sum(2),
    }[model.config.pooling](frames)
    token = model.model.temporal_encoder.class_token
    return vectors if token is None else torch.cat([token.expand(len(vectors), -1, -1), vectors], dim=1)


def parameters(model: VivitForVideoClassification) -> dict[str, torch.Tensor]:
    """The model's weights under the original's names and in its layout, as far as cases ask for them."""
    found = {"param/embedding/kernel": flax_kernel(model.model.embeddings.tubelet_embedding.projection.weight)}
    names = {"encoder": "Transformer"}
    if model.model.temporal_encoder is not None:
        names = {"encoder": "SpatialTransformer", "temporal_encoder": "TemporalTransformer"}
    for ours, theirs in names.items():
        encoder = getattr(model.model, ours)
        found[f"param/{theirs}/posembed_input/pos_embedding"] = encoder.position_embedding.table
        for index, layer in enumerate(encoder.layers):
            block = f"param/{theirs}/encoderblock_{index}"
            norms = {
                "LayerNorm_0": "attention_norm",
                "LayerNorm_1": "mlp_norm",
                "LayerNorm_mlp": "mlp_norm",
                "LayerNorm_space": "space_norm",
                "LayerNorm_time": "time_norm",
            }
            for name, norm in norms.items():
                if hasattr(layer, norm):
                    found[f"{block}/{name}/scale"] = getattr(layer, norm).weight
            for axis in ("space", "time"):
                if hasattr(layer, f"{axis}_attention"):
                    weight = getattr(layer, f"{axis}_attention").projection.weight
                    out = weight.t().unflatten(0, (model.config.num_attention_heads, -1))
                    found[f"{block}/MultiHeadDotProductAttention_{axis}/out/kernel"] = out
    return found


def flax_kernel(weight: torch.Tensor) -> torch.Tensor:
    return weight.permute(2, 3, 4, 1, 0)


def compute_heads(case: Case) -> dict[str, torch.Tensor]:
    """Loss of two heads, and whether both are right: at once, or among the five most probable pairs."""
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    logits, labels, sizes = inputs["logits"], inputs["labels"].long(), case.config["class_splits"]
    assert len(case.config.get("split_names", sizes)) == len(sizes)
    # Without smoothing, the original's configurations have None or no such field.
    loss, _ = MultiHeadCrossEntropy(sizes, case.config.get("label_smoothing") or 0.0)(logits, labels)
    best = joint_scores(logits, sizes).topk(5).indices
    hits = best == joint_labels(labels, sizes)[:, None]
    return {
        "loss": loss[None],
        "joint_top1": hits[:, 0].float(),
        "joint_top5": hits.any(dim=1, keepdim=True).float(),
    }
