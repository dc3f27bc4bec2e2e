"""Golden cases of mlpc-ucsd/CoaT."""

import torch

from hf_vits.conversion import convert
from hf_vits.layers.convolution import to_map
from hf_vits.models.coat.modeling_coat import CoatModel

from .golden import Case

OUR_FIELDS = {
    "patch_size": "patch_size",
    "embed_dims": "hidden_sizes",
    "serial_depths": "depths",
    "parallel_depth": "num_parallel_layers",
    "num_heads": "num_attention_heads",
    "mlp_ratios": "mlp_ratios",
    "qkv_bias": "qkv_bias",
    "layer_norm_eps": "layer_norm_eps",
}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    overrides = {ours: config[theirs] for theirs, ours in OUR_FIELDS.items()}
    overrides["relative_window_sizes"] = [int(window) for window in config["crpe_window"]]
    overrides["relative_window_heads"] = list(config["crpe_window"].values())
    model = convert("coat", case.meta["variant"], case.checkpoint(), **overrides)
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    computed = scales(model.model, pixel_values)
    outputs = model(pixel_values)
    if "logits" in outputs:
        pooled = model.model(pixel_values).pooler_output
        return {**computed, "logits": outputs.logits, "pooled": pooled}
    return {**computed, **{f"x{scale}_nocls": map_ for scale, map_ in enumerate(outputs.feature_maps, start=1)}}


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
