"""Golden cases of SHI-Labs/Compact-Transformers, for images and, with the prefix text_, for text."""

import torch

from hf_vits.conversion import convert, variants

from .golden import Case
from .record import eager_attentions, recording

OUR_FIELDS = {
    "img_size": "image_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "embedding_dim": "hidden_size",
    "n_conv_layers": "num_conv_layers",
    "kernel_size": "kernel_size",
    "stride": "stride",
    "padding": "padding",
}
# A variant of each family whose fields a case's own configuration then replaces.
FAMILIES = {"vit": "vit_7_4_32", "cvt": "cvt_7_4_32", "cct": "cct_7_3x1_32"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    variant, overrides = arguments(case)
    model = convert("cct", variant, case.checkpoint(), **overrides)
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    if "mask" in inputs:
        inputs["attention_mask"] = inputs.pop("mask")
    encoder = model.model
    embeddings = encoder.embeddings
    modules = {
        "tokens": embeddings.tokenizer,
        "embedded": getattr(embeddings, "word_embeddings", None),
        "positional_emb": embeddings.position_embedding,
        "pool_scores": getattr(encoder.pooler, "score", None),
    }
    modules |= {f"block{index}": layer for index, layer in enumerate(encoder.layers)}
    with recording({name: module for name, module in modules.items() if module is not None}) as seen:
        outputs = model(**inputs)
        base = encoder(**inputs)
    if "tokens" in seen:
        seen["tokens"] = seen["tokens"].flatten(2).transpose(1, 2)
    attentions = eager_attentions(encoder, **inputs)
    return seen | {
        "attention_first": attentions[0],
        "attention_last": attentions[-1],
        "last_hidden_state": base.last_hidden_state,
        "pooled": base.pooler_output,
        "logits": outputs.logits,
    }


def arguments(case: Case) -> tuple[str, dict]:
    """The variant to convert as, and the fields in which the case differs from it."""
    config, name = case.config, case.meta["variant"]
    overrides = {"position_embedding_type": "none"} if config.get("positional_embedding") == "none" else {}
    if "family" not in config:  # text: the file tells the rest
        return max((known for known in variants("cct") if name.startswith(known)), key=len), overrides
    overrides |= {ours: config[theirs] for theirs, ours in OUR_FIELDS.items() if theirs in config}
    overrides["intermediate_size"] = int(config["embedding_dim"] * config["mlp_ratio"])
    if config["family"] != "cct":
        overrides["stride"] = config["kernel_size"]
    return FAMILIES[config["family"]], overrides
