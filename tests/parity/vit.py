"""Golden cases of google-research/vision_transformer and, with the prefix bv_, of google-research/big_vision."""

import re

import torch

from hf_vits.conversion import convert

from .golden import Case
from .record import recording


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    overrides = {
        "hidden_size": config.get("hidden_size", config.get("width")),
        "num_hidden_layers": config.get("num_layers", config.get("depth")),
        "intermediate_size": config["mlp_dim"],
        "num_attention_heads": config["num_heads"],
    }
    if config.get("classifier", "").endswith("unpooled"):
        overrides["pooling"] = "none"
    if config.get("pool_type") in ("0", "none"):
        overrides["pooling"] = config["pool_type"]
    model = convert("vit", case.meta["variant"], case.checkpoint(), **overrides)
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"]).permute(0, 3, 1, 2)
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


def pooled_before_representation(encoder, hidden_states: torch.Tensor) -> torch.Tensor:
    representation, encoder.pooler.representation = encoder.pooler.representation, None
    try:
        return encoder.pooler(hidden_states)
    finally:
        encoder.pooler.representation = representation
