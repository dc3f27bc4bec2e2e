"""Golden cases of facebookresearch/LeViT."""

from copy import deepcopy

import torch

import hf_vits
from hf_vits.conversion import convert
from hf_vits.layers.convolution import to_map, to_tokens

from .golden import Case
from .record import recording


def compute(case: Case) -> dict[str, torch.Tensor]:
    variant = case.meta["variant"].split()[0]
    model = convert("levit", variant.replace("LeViT_c_", "LeViT_"), case.checkpoint(), drop_path_rate=0.0)
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    encoder = model.model
    first_layer = encoder.stages[0].layers[0]
    modules = {"stem": encoder.embeddings, "attention": first_layer.attention}
    modules |= {f"downsample{index}": stage.downsampling.attention for index, stage in enumerate(encoder.stages[1:])}
    with recording(modules) as seen:
        outputs = model(inputs["pixel_values"], output_hidden_states=True)
        base = encoder(inputs["pixel_values"])
    train = deepcopy(model).train()(inputs["pixel_values_train"])
    stages = {f"stage{index}": to_tokens(feature_map) for index, feature_map in enumerate(outputs.hidden_states[1:])}
    tokens = {name: value for name, value in seen.items() if name.startswith("downsample")} | stages
    tokens["block0"] = to_tokens(seen["stem"]) + seen["attention"]
    tokens["last_hidden_state"] = base.last_hidden_state
    if variant.startswith("LeViT_c_"):  # the same network, its tokens kept as maps
        tokens = {name: to_map(value, (round(value.shape[1] ** 0.5),) * 2) for name, value in tokens.items()}
    return tokens | {
        "stem": seen["stem"],
        "pooled": base.pooler_output,
        "logits": outputs.logits,
        "logits_head": head(outputs),
        "logits_distillation": outputs.distillation_logits,
        "train_logits_head": head(train),
        "train_logits_distillation": train.distillation_logits,
        "fused_logits": hf_vits.fuse(model)(inputs["pixel_values"]).logits,
    }


def head(outputs) -> torch.Tensor:
    """Logits of the class head, the only one where none learned from a teacher."""
    return outputs.logits if outputs.cls_logits is None else outputs.cls_logits
