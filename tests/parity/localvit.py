"""Golden cases of ofsoundof/LocalViT, on each of its hosts."""

import torch
from torch import nn

from hf_vits.conversion import convert, variants
from hf_vits.layers.convolution import to_map, to_tokens

from .golden import Case
from .record import recording

ACTIVATIONS = {
    1: ("relu6", "none"),
    2: ("hardswish", "none"),
    3: ("hardswish", "squeeze_excitation"),
    4: ("hardswish", "efficient"),
}
# Fields of the original's configurations under our names, where one is the other.
OUR_FIELDS = {
    "img_size": "image_size",
    "depths": "depths",
    "embed_dims": "hidden_sizes",
    "num_heads": "num_attention_heads",
    "sr_ratios": "sequence_reduction_ratios",
    "mlp_ratios": "mlp_ratios",
    "window_size": "window_size",
    "depth": "num_hidden_layers",
    "in_dim": "pixel_hidden_size",
    "in_num_head": "pixel_num_attention_heads",
    "first_stride": "pixel_stride",
    "tokens_type": "token_layer",
    "token_dim": "token_size",
    "layer_norm_eps": "layer_norm_eps",
    "qkv_bias": "qkv_bias",
}


def compute(case: Case) -> dict[str, torch.Tensor]:
    variant = case.meta["variant"] if case.meta["variant"] in variants("localvit") else "localvit_tiny_mlp4_act3_r192"
    model = convert("localvit", variant, case.checkpoint(), **overrides(case.config))
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    model.set_attn_implementation("eager")
    host = {"deit": isotropic, "tnt": tnt, "t2t": t2t, "pvt": pvt, "swin": swin}
    outputs = model(pixel_values, output_attentions=True, output_hidden_states=True)
    base = model.model(pixel_values)
    inside = host[model.config.model_type.removeprefix("hf_vits_")](model.model, pixel_values, outputs)
    return inside | {
        "last_hidden_state": base.last_hidden_state,
        "pooled": base.pooler_output,
        "logits": outputs.logits,
    }


def overrides(config: dict) -> dict:
    fields = {ours: config[theirs] for theirs, ours in OUR_FIELDS.items() if theirs in config}
    if "act" in config:
        activation, channel_attention = ACTIVATIONS.get(config["act"], ("hardswish", "efficient_hard"))
        fields |= {"locality_act": activation, "channel_attention": channel_attention}
    if config.get("wo_dp_conv"):
        fields["depthwise_convolution"] = False
    if "window_size" in config:
        stages = range(len(config["depths"]))
        fields["hidden_sizes"] = [config["embed_dim"] * 2**stage for stage in stages]
        fields["mlp_ratio"] = config["mlp_ratio"]
    elif "embed_dim" in config:
        hidden_size = config["embed_dim"]
        fields |= {"hidden_size": hidden_size, "intermediate_size": int(config["mlp_ratio"] * hidden_size)}
        fields["squeeze_size"] = max(1, fields["intermediate_size"] // config["reduction"])
        if "in_dim" in config:
            fields["pixel_intermediate_size"] = 4 * config["in_dim"]
    return fields


def patch_map(tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    return to_map(tokens[:, tokens.shape[1] - grid[0] * grid[1] :], grid)


def isotropic(encoder: nn.Module, pixel_values: torch.Tensor, outputs) -> dict[str, torch.Tensor]:
    layers, grid = encoder.layers, encoder.embeddings.grid(*pixel_values.shape[-2:])
    modules = {"embeddings": encoder.embeddings, "feed_forward": layers[0].feed_forward}
    modules |= {"block0": layers[0], "block_middle": layers[len(layers) // 2]}
    with recording(modules) as seen:
        encoder(pixel_values)
    return {
        **seen,
        "ffn0": patch_map(seen["feed_forward"], grid),
        "attention_last": outputs.attentions[-1],
    }


def tnt(encoder: nn.Module, pixel_values: torch.Tensor, outputs) -> dict[str, torch.Tensor]:
    kept = {}
    handles = [
        encoder.layers[0].register_forward_hook(lambda layer, arguments, output: kept.update(block0=output)),
        encoder.layers[-1].pixel_attention.register_forward_hook(
            lambda layer, arguments, output: kept.update(attention=output)
        ),
    ]
    with recording({"pixel_embeddings": encoder.embeddings.pixel_embeddings}) as seen:
        inside = isotropic(encoder, pixel_values, outputs)
    for handle in handles:
        handle.remove()
    return {
        **inside,
        "pixel_embeddings": seen["pixel_embeddings"],
        "block0_patch": kept["block0"][0],
        "block0_pixel": kept["block0"][1],
        "attention_inner_last": kept["attention"][1],
    }


def t2t(encoder: nn.Module, pixel_values: torch.Tensor, outputs) -> dict[str, torch.Tensor]:
    embeddings = encoder.embeddings
    modules = {"unfolded0": embeddings.splits[0], "tokens": embeddings.projection}
    modules |= {f"token_attention{index}": layer for index, layer in enumerate(embeddings.layers, start=1)}
    with recording(modules) as seen:
        inside = isotropic(encoder, pixel_values, outputs)
    return {**inside, **seen, "unfolded0_tokens_1000_1007": seen["unfolded0"][:, 1000:1008]}


def pvt(encoder: nn.Module, pixel_values: torch.Tensor, outputs) -> dict[str, torch.Tensor]:
    modules, computed = {"stage1_embeddings": encoder.embeddings}, {"attention_last": outputs.attentions[-1]}
    for number, stage in enumerate(encoder.stages, start=1):
        modules |= {f"stage{number}_ffn0": stage.layers[0].feed_forward, f"stage{number}": stage.layers[-1]}
        if number > 1:
            modules[f"stage{number}_embeddings"] = stage.embeddings
    with recording(modules) as seen:
        encoder(pixel_values)
    for number, _ in enumerate(encoder.stages, start=1):
        grid = tuple(outputs.hidden_states[number].shape[-2:])
        computed[f"stage{number}_embeddings"] = to_tokens(seen[f"stage{number}_embeddings"])
        computed[f"stage{number}_ffn0"] = patch_map(seen[f"stage{number}_ffn0"], grid)
        computed[f"stage{number}"] = seen[f"stage{number}"]
    return computed


def swin(encoder: nn.Module, pixel_values: torch.Tensor, outputs) -> dict[str, torch.Tensor]:
    """Stages end there with the merging that ours begin with."""
    first, *later = encoder.stages
    modules = {"ffn0": first.layers[0].feed_forward, "block0": first.layers[0], "block1_shifted": first.layers[1]}
    modules |= {f"stage{index}": stage.merging for index, stage in enumerate(later)}
    with recording(modules) as seen:
        encoder(pixel_values)
    return {
        "embeddings": to_tokens(outputs.hidden_states[0]),
        "ffn0": patch_map(seen["ffn0"], tuple(outputs.hidden_states[0].shape[-2:])),
        "block0": seen["block0"],
        "block1_shifted": seen["block1_shifted"],
        "attention_shifted": outputs.attentions[1],
        **{f"stage{index}": to_tokens(seen[f"stage{index}"]) for index, _ in enumerate(later)},
        f"stage{len(later)}": to_tokens(outputs.hidden_states[-1]),
    }
