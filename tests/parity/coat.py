"""Golden cases of mlpc-ucsd/CoaT."""

import torch

from hf_vits.conversion import convert
from hf_vits.layers.convolution import to_map
from hf_vits.models.coat.modeling_coat import CoatModel

from .golden import Case, Config

# What no tensor records.
OUR_FIELDS = {"num_heads": "num_attention_heads", "layer_norm_eps": "layer_norm_eps"}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    model = convert("coat", "coat_lite_tiny", case.checkpoint(), **config.renamed(OUR_FIELDS))
    check(config, model.config)
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    computed = scales(model.model, pixel_values)
    outputs = model(pixel_values)
    if "logits" in outputs:
        pooled = model.model(pixel_values).pooler_output
        return {**computed, "logits": outputs.logits, "pooled": pooled}
    return {**computed, **{f"x{scale}_nocls": map_ for scale, map_ in enumerate(outputs.feature_maps, start=1)}}


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    windows = zip(map(str, built.relative_window_sizes), built.relative_window_heads, strict=True)
    # A file without head makes a backbone; its original returned the maps of all scales.
    maps = [f"x{scale}_nocls" for scale, _ in enumerate(built.depths, start=1)]
    is_backbone = built.num_labels == 0
    config.check(
        patch_size=built.patch_size,
        embed_dims=built.hidden_sizes,
        serial_depths=built.depths,
        parallel_depth=built.num_parallel_layers,
        mlp_ratios=built.mlp_ratios,
        qkv_bias=built.qkv_bias,
        return_interm_layers=is_backbone,
        out_features=maps if is_backbone else None,
    )
    assert dict(config["crpe_window"]) == dict(windows)
    if not is_backbone:
        config.check(num_classes=built.num_labels)
    else:
        config.unused("num_classes")


def scales(encoder: CoatModel, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Class token and map of each scale after its serial layers, the first and the last parallel layer."""
    stages, layers = encoder.stages, encoder.parallel_layers
    modules = {f"serial{scale}": stage.layers[-1] for scale, stage in enumerate(stages, start=1)}
    if layers:
        modules |= {"parallel0_": layers[0], "parallel": layers[-1]}
    tokens: dict[str, torch.Tensor] = {}

    def keep(name: str):
        def hook(module, arguments, output):
            named = enumerate(output, start=2) if isinstance(output, tuple) else [("", output)]
            tokens.update({f"{name}{scale}": value for scale, value in named})

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    grids = [tuple(map_.shape[-2:]) for map_ in encoder(pixel_values).feature_maps]
    for handle in handles:
        handle.remove()
    computed = {}
    for name, value in tokens.items():
        computed[f"{name}_cls"] = value[:, 0]
        computed[name] = to_map(value[:, 1:], grids[int(name[-1]) - 1])
    return computed
