"""Golden cases of facebookresearch/LeViT."""

from copy import deepcopy

import torch
from torchvision.ops import StochasticDepth

import hf_vits
from hf_vits.conversion import convert
from hf_vits.layers.convolution import to_map, to_tokens
from hf_vits.models.levit.modeling_levit import STEM_STRIDE

from .golden import Case, Config
from .record import recording

# Fields that no tensor records.
OUR_FIELDS = {"drop_path": "drop_path_rate"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config, checkpoint = case.config, case.checkpoint()
    model = convert("levit", "LeViT_128S", checkpoint, **config.renamed(OUR_FIELDS))
    check(config, model.config)
    for layer in model.modules():  # for the outputs in training mode
        if isinstance(layer, StochasticDepth):
            layer.p = 0.0
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
    if checkpoint["blocks.1.m.0.c.weight"].ndim == 4:  # levit_c.py, the same network, keeps its tokens as maps
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


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    stages = len(built.depths)
    ratios = (built.downsampling_attention_ratio, built.mlp_ratio)
    config.check(
        embed_dim=built.hidden_sizes,
        num_heads=built.num_attention_heads,
        depth=built.depths,
        key_dim=built.key_dims,
        attn_ratio=[built.attention_ratio] * stages,
        mlp_ratio=[built.mlp_ratio] * stages,
        img_size=built.image_size,
        patch_size=STEM_STRIDE,
        num_classes=built.num_labels,
        distillation=built.distilled,
        down_ops=[
            ["Subsample", built.key_dim_between, width // built.key_dim_between, *ratios, 2]
            for width in built.hidden_sizes[:-1]
        ],
    )


def head(outputs) -> torch.Tensor:
    """Logits of the class head, the only one where none learned from a teacher."""
    return outputs.logits if outputs.cls_logits is None else outputs.cls_logits
