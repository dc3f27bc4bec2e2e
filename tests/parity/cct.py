"""Golden cases of SHI-Labs/Compact-Transformers, for images and, with the prefix text_, for text."""

import torch

from hf_vits.conversion import convert, variants

from .golden import Case, Config
from .record import eager_attentions, recording

# What no tensor records.
OUR_FIELDS = {
    "img_size": "image_size",
    "num_heads": "num_attention_heads",
    "kernel_size": "kernel_size",
    "stride": "stride",
    "padding": "padding",
    "pooling_kernel_size": "pool_kernel_size",
    "pooling_stride": "pool_stride",
    "pooling_padding": "pool_padding",
}
POSITIONS = {"learnable": "learned", "sine": "sine", "none": "none"}
# A variant of each family, whose other fields a case's own configuration replaces.
FAMILIES = {"vit": "vit_7_4_32", "cvt": "cvt_7_4_32", "cct": "cct_7_3x1_32"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    variant, overrides = arguments(case)
    model = convert("cct", variant, case.checkpoint(), **overrides)
    check(case.config, model.config)
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
    """The variant to convert as, and fields that no tensor records."""
    config, name = case.config, case.meta["variant"]
    overrides = {} if config.get("positional_embedding") != "none" else {"position_embedding_type": "none"}
    if size := config.get("run_img_size"):
        config.unused("img_size")  # the file has a table for it, the model is of another
        overrides["image_size"] = size
    if "family" not in config:  # texts, whose configurations name neither family nor heads
        return max((known for known in variants("cct") if name.startswith(known)), key=len), overrides
    overrides = config.renamed(OUR_FIELDS) | overrides
    if config["family"] != "cct":
        overrides["stride"] = config["kernel_size"]
    return FAMILIES[config["family"]], overrides


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    positions = {ours: theirs for theirs, ours in POSITIONS.items()}
    config.check(
        num_layers=built.num_hidden_layers,
        embedding_dim=built.hidden_size,
        mlp_ratio=built.intermediate_size / built.hidden_size,
        n_conv_layers=getattr(built, "num_conv_layers", 1),
        num_classes=built.num_labels,
        positional_embedding=positions[built.position_embedding_type],
        vocab_size=getattr(built, "vocab_size", None),
        word_embedding_dim=getattr(built, "word_embedding_size", None),
        kernel_size=built.kernel_size,
        patch_size=built.kernel_size,
    )
