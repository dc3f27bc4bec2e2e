"""Golden cases of ggjy/CMT.pytorch."""

import torch
from torch import nn

from hf_vits.conversion import convert
from hf_vits.layers.convolution import to_tokens

from .golden import Case, Config
from .record import eager_attentions, recording

# What no tensor records.
OUR_FIELDS = {"mlp_ratio": "mlp_ratio", "head_dropout": "classifier_dropout_prob", "layer_norm_eps": "layer_norm_eps"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    model = convert("cmt", "cmt_ti", case.checkpoint(), **case.config.renamed(OUR_FIELDS))
    check(case.config, model)
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    encoder = model.model
    first = encoder.stages[0].layers[0]
    modules = {
        "stem": encoder.embeddings.stem,
        "embed_a": encoder.embeddings,
        "lpu_a": first.local_perception,
        "irffn_a": first.feed_forward,
        "head_map": encoder.pooler.projection,
    }
    with recording(modules) as seen:
        outputs = model(pixel_values, output_hidden_states=True)
        pooled = encoder(pixel_values).pooler_output
    attentions = eager_attentions(encoder, pixel_values=pixel_values)
    return seen | {
        "embed_a": to_tokens(seen["embed_a"]),
        "lpu_a": to_tokens(seen["lpu_a"]),
        "attention_a": attentions[0],
        "attention_d": attentions[-1],
        **{f"stage_{name}": value for name, value in zip("abcd", outputs.hidden_states[1:], strict=True)},
        "pooled": pooled,
        "logits": outputs.logits,
    }


def check(config: Config, model) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    built, stages = model.config, model.model.stages
    stem = model.model.embeddings
    config.check(
        img_size=built.image_size,
        stem_channel=built.stem_hidden_size,
        embed_dims=built.hidden_sizes,
        depths=built.depths,
        num_heads=built.num_attention_heads,
        mlp_hidden=[int(size * built.mlp_ratio) for size in built.hidden_sizes],
        sr_ratios=built.sequence_reduction_ratios,
        qk_ratio=1,
        qkv_bias=stages[0].layers[0].attention.query.bias is not None,
        fc_dim=built.pooler_hidden_size,
        num_classes=built.num_labels,
        patch_embed_layer_norm_eps=next(part for part in stem.modules() if isinstance(part, nn.LayerNorm)).eps,
        batch_norm_eps=next(part for part in stem.modules() if isinstance(part, nn.BatchNorm2d)).eps,
    )
