"""Golden cases of microsoft/CvT."""

import torch

from hf_vits.conversion import convert

from .golden import Case
from .record import eager_attentions, recording

OUR_FIELDS = {
    "DEPTH": "depths",
    "DIM_EMBED": "hidden_sizes",
    "NUM_HEADS": "num_attention_heads",
    "MLP_RATIO": "mlp_ratios",
    "PATCH_SIZE": "patch_sizes",
    "PATCH_STRIDE": "patch_strides",
    "PATCH_PADDING": "patch_paddings",
}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    overrides = {ours: config[theirs] for theirs, ours in OUR_FIELDS.items()}
    overrides["use_class_token"] = config["CLS_TOKEN"][-1]
    model = convert("cvt", case.meta["variant"], case.checkpoint(), **overrides)
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    encoder = model.model
    with recording({"embed0": encoder.embeddings, "last": encoder.stages[-1].layers[-1]}) as seen:
        outputs = model(pixel_values, output_hidden_states=True)
        pooled = encoder(pixel_values).pooler_output
    return {
        "embed0": seen["embed0"],
        **{f"stage{index}": hidden_state for index, hidden_state in enumerate(outputs.hidden_states[1:])},
        "cls_token": seen["last"][:, :1],
        "attention": eager_attentions(encoder, pixel_values=pixel_values)[-1],
        "pooled": pooled,
        "logits": outputs.logits,
    }
