"""Golden cases of ristea/septr."""

import re

import torch

from hf_vits.conversion import convert

from .golden import Case, Config
from .record import recording


def compute(case: Case) -> dict[str, torch.Tensor]:
    model = convert("septr", "septr_vh", case.checkpoint(), **overrides(case.config))
    check(case.config, model.config)
    encoder = model.model
    features, labels = (torch.from_numpy(case.inputs()[name]) for name in ("spectrogram", "labels"))
    features = features.transpose(2, 3)
    if case.config["channels"] == 1:
        features = features[:, 0]
    first = encoder.layers[0].axes[0].layer
    tokens: dict[int, torch.Tensor] = {}

    def keep_class_token(index: int):
        return lambda module, arguments, output: tokens.__setitem__(index, output[1])

    handles = [layer.register_forward_hook(keep_class_token(i)) for i, layer in enumerate(encoder.layers)]
    with recording({"first": first}) as seen:
        maps = encoder(features, output_hidden_states=True).hidden_states[1:]
    for handle in handles:
        handle.remove()
    outputs = model(features, labels=labels.long())
    columns = max(1, len(seen["first"]) // 8)
    computed = {
        "logits": outputs.logits,
        "loss": outputs.loss[None],
        "block_0_first_axis_cls": seen["first"][:, 0],
        "block_0_first_axis_tokens": seen["first"][::columns, 1::8, ::8],
    }
    for index, feature_map in enumerate(maps):
        computed[f"block_{index}_tokens"] = spread_out(feature_map, case.config["down_sample_input"])
        computed[f"block_{index}_cls"] = tokens[index][:, None, None]
    for name in case.meta["outputs"]:
        if match := re.fullmatch(r"(.+)_every_(\d+)", name):
            step = int(match[2])
            computed[name] = computed[match[1]][:, :, ::step, ::step]
    return computed


def overrides(config: Config) -> dict:
    """What no tensor records."""
    return {"num_attention_heads": config["heads"], "pool_size": config["down_sample_input"]}


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    config.check(
        channels=built.num_channels,
        input_size=[built.num_mel_bins, built.num_frames],
        num_classes=built.num_labels,
        depth=built.num_hidden_layers,
        mlp_dim=built.intermediate_size,
        dim_head=built.head_dim,
        dim=built.hidden_size,
    )


def spread_out(feature_map: torch.Tensor, pool_size: list[int] | None) -> torch.Tensor:
    """Repeat each token of a map (batch, channels, bins, frames) over its pooling window, as the original does."""
    if pool_size is None:
        return feature_map
    return feature_map.repeat_interleave(pool_size[0], dim=2).repeat_interleave(pool_size[1], dim=3)
