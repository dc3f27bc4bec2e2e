"""Golden cases of ggjy/CMT.pytorch."""

import torch

from hf_vits.conversion import convert
from hf_vits.layers.convolution import to_tokens

from .golden import Case
from .record import eager_attentions, recording


def compute(case: Case) -> dict[str, torch.Tensor]:
    model = convert("cmt", case.meta["variant"], case.checkpoint())
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
