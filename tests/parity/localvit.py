"""Golden cases of ofsoundof/LocalViT, on each of its hosts."""

import torch
from torch import nn

from hf_vits.conversion import convert
from hf_vits.layers.convolution import to_map, to_tokens

from .golden import Case, Config
from .record import recording

# By the number of the original's option: its name there, our activation and channel attention.
ACTIVATIONS = {
    1: ("relu6", "relu6", "none"),
    2: ("hs", "hardswish", "none"),
    3: ("hs+se", "hardswish", "squeeze_excitation"),
    4: ("hs+eca", "hardswish", "efficient"),
}
OTHER_ACTIVATION = ("hs+ecah", "hardswish", "efficient_hard")
# A published variant of each host, by a field that only its configurations have.
HOSTS = {
    "sr_ratios": "localvit_pvt_tiny",
    "window_size": "localvit_swin_tiny_patch4_window7_224",
    "in_dim": "localvit_tnt_t_patch16_224",
    "tokens_type": "localvit_T2t_conv7",
    "patch_size": "localvit_tiny_mlp4_act3_r192",
}
# What no tensor records.
OUR_FIELDS = {
    "img_size": "image_size",
    "num_heads": "num_attention_heads",
    "in_num_head": "pixel_num_attention_heads",
    "first_stride": "pixel_stride",
    "window_size": "window_size",
    "layer_norm_eps": "layer_norm_eps",
}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    variant = next(name for field, name in HOSTS.items() if field in config)
    overrides = config.renamed(OUR_FIELDS)
    if "act" in config:
        name, activation, attention = ACTIVATIONS.get(config["act"], OTHER_ACTIVATION)
        overrides |= {"locality_act": activation, "channel_attention": attention}
        config.check(act_name=name)
    model = convert("localvit", variant, case.checkpoint(), **overrides)
    check(config, model.config)
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


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    config.check(
        num_classes=built.num_labels,
        qkv_bias=built.qkv_bias,
        wo_dp_conv=not built.depthwise_convolution,
        dp_first=False,
        ape=False,
        patch_norm=True,
        drop_path=built.drop_path_rate,
    )
    if hasattr(built, "depths"):
        widths = list(built.hidden_sizes)
        ratios = built.mlp_ratios if hasattr(built, "mlp_ratios") else [built.mlp_ratio] * len(widths)
        config.check(
            depths=built.depths,
            embed_dims=widths,
            embed_dim=widths[0],
            mlp_ratios=ratios,
            mlp_ratio=ratios[0],
            sr_ratios=getattr(built, "sequence_reduction_ratios", None),
            patch_size=built.patch_sizes[0] if hasattr(built, "patch_sizes") else built.patch_size,
        )
        hidden = [int(width * ratio) for width, ratio in zip(widths, ratios, strict=True)]
        squeezed = built.squeeze_sizes
    else:
        widths, hidden, squeezed = [built.hidden_size], [built.intermediate_size], [built.squeeze_size]
        config.check(
            depth=built.num_hidden_layers,
            embed_dim=built.hidden_size,
            mlp_ratio=built.intermediate_size / built.hidden_size,
            patch_size=getattr(built, "patch_size", None),
            in_dim=getattr(built, "pixel_hidden_size", None),
            tokens_type=getattr(built, "token_layer", None),
            token_dim=getattr(built, "token_size", None),
        )
    if built.channel_attention != "squeeze_excitation":
        config.unused("reduction")
    else:
        reduction = config["reduction"]
        reductions = {"dim of the stage": widths, "dim//4 of the stage": [width // 4 for width in widths]}
        reductions = reductions.get(reduction, [reduction] * len(widths))
        expected = [max(1, width // by) for width, by in zip(hidden, reductions, strict=True)]
        assert expected == list(squeezed), f"the case has reduction={reduction!r}, the model widths {squeezed}"


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
    modules = {"ffn0": first.layers[0].feed_forward, "block0": first.layers[0], "block1_shifted": first.layers[-1]}
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
