"""Golden cases of google-research/vision_transformer and, with the prefix bv_, of google-research/big_vision."""

import re

import torch

from hf_vits.conversion import convert

from .golden import Case, Config
from .record import recording

# Our pooling, and whether there is a class token, by the original's option.
CLASSIFIERS = {
    "token": ("token", True),
    "token_unpooled": ("none", True),
    "unpooled": ("none", False),
    "gap": ("mean", False),
}
POOL_TYPES = {"tok": "token", "0": "first", "gap": "mean", "map": "map", "none": "none"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config, checkpoint = case.config, case.checkpoint()
    is_big_vision = "pool_type" in config
    overrides = {"num_attention_heads": config["num_heads"], "layer_norm_eps": config["layer_norm_eps"]}
    if is_big_vision:
        overrides["pooling"] = POOL_TYPES[config["pool_type"]]
    else:
        overrides["pooling"], overrides["use_class_token"] = CLASSIFIERS[config["classifier"]]
    model = convert("vit", "Ti/16" if is_big_vision else "ViT-Ti_16", checkpoint, **overrides)
    check(config, checkpoint, model.config)
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"]).permute(0, 3, 1, 2)
    config.check(target_image_size=pixel_values.shape[-1])
    encoder = model.model
    patch = encoder.embeddings.patch_embedding
    modules = {"patches": patch, "embeddings": encoder.embeddings, "positions": encoder.embeddings.position_embedding}
    modules |= {f"layer_{index}": layer for index, layer in enumerate(encoder.layers)}
    modules |= {f"attention_{index}": layer.attention for index, layer in enumerate(encoder.layers)}
    modules |= {f"resnet_block{index}": stage for index, stage in enumerate(getattr(patch, "stages", ()), start=1)}
    with recording(modules) as seen:
        outputs = model(pixel_values)
        base = encoder(pixel_values)
    prefix = model.config.num_prefix_tokens
    patch_tokens = base.last_hidden_state[:, prefix:]
    computed = {
        "embedding": seen["patches"].permute(0, 2, 3, 1),
        "pos_embedding_resized": seen["positions"],
        "with_posemb": seen["embeddings"][:, prefix:],
        "last_hidden_state": base.last_hidden_state,
        "encoded": base.last_hidden_state,
        "head_input": pooled_before_representation(encoder, base.last_hidden_state),
        "pre_logits": base.pooler_output,
        "logits": outputs.logits,
        # big_vision applies the head to every patch as well.
        "logits_2d": model.classifier(encoder.pooler.represent(patch_tokens)).unflatten(1, seen["patches"].shape[-2:]),
    }
    for name in case.meta["outputs"]:
        if match := re.fullmatch(r"block_?(\d+)", name):
            computed[name] = seen[f"layer_{int(match[1])}"]
        elif match := re.fullmatch(r"block(\d+)_sa", name):
            computed[name] = seen[f"attention_{int(match[1])}"]
        elif name.startswith("resnet_block"):
            computed[name] = seen[name].permute(0, 2, 3, 1)
    return computed


def check(config: Config, checkpoint: dict, built) -> None:
    """Compare what the file recorded of the model, and what every model here has, with the case's configuration."""
    sides = built.patch_size if isinstance(built.patch_size, (list, tuple)) else [built.patch_size] * 2
    depths = built.stem_depths
    width, representation = built.hidden_size, built.representation_size
    config.check(
        patch_size=sides,
        hidden_size=width,
        width=width,
        representation_size=representation,
        rep_size={None: False, width: True}.get(representation, representation),
        mlp_dim=built.intermediate_size,
        num_layers=built.num_hidden_layers,
        depth=built.num_hidden_layers,
        num_classes=built.num_labels,
        image_size=built.image_size,
        posemb={"learned": "learn", "sincos2d": "sincos2d"}.get(built.position_embedding_type),
        scan=any(key.startswith("Transformer/encoderblock/") for key in plain(checkpoint)),
        activation={"gelu_pytorch_tanh": "gelu tanh approximation"}[built.hidden_act],
        input_layout="NHWC",
    )
    if "resnet" in config:
        config["resnet"].check(num_layers=depths, width_factor=1)


def plain(checkpoint: dict) -> list[str]:
    return [key.removeprefix("params/") for key in checkpoint]


def pooled_before_representation(encoder, hidden_states: torch.Tensor) -> torch.Tensor:
    representation, encoder.pooler.representation = encoder.pooler.representation, None
    try:
        return encoder.pooler(hidden_states)
    finally:
        encoder.pooler.representation = representation
