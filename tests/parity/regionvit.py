"""Golden cases of IBM/RegionViT: classifiers, and the backbones of its detectors."""

import torch

from hf_vits.conversion import convert
from hf_vits.conversion.systems.regionvit import resize_table
from hf_vits.models.regionvit.modeling_regionvit import RegionViTModel

from .golden import Case
from .record import with_channels

CONV_LAYERS = {"1conv": 1, "3conv": 3}


def compute(case: Case) -> dict[str, torch.Tensor]:
    config, checkpoint = case.config, case.checkpoint()
    model = convert(
        "regionvit",
        "regionvit_tiny_224",
        checkpoint,
        depths=config["depth"],
        hidden_sizes=config["embed_dim"][1:],
        num_attention_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        num_conv_layers=CONV_LAYERS[config["patch_conv_type"]],
        use_conv_position_embedding=config.get("peg", False),
        window_size=config.get("converted_kernel_sizes", config["kernel_sizes"])[0],
    )
    encoder, pixel_values = model.model, torch.from_numpy(case.inputs()["pixel_values"])
    computed = record_maps(encoder, pixel_values)
    computed |= {"pooled": encoder(pixel_values).pooler_output, "logits": model(pixel_values).logits}
    return with_channels(case, computed) | converted(checkpoint, encoder)


def record_maps(encoder: RegionViTModel, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Local and regional map of the embeddings and of every stage."""
    seen = {}

    def keep(*names: str):
        return lambda module, arguments, maps: seen.update(zip(names, maps, strict=True))

    handles = [encoder.embeddings.register_forward_hook(keep("local_embed", "regional_embed"))]
    for index, stage in enumerate(encoder.stages, start=1):
        handles.append(stage.register_forward_hook(keep(f"stage{index}_local", f"stage{index}_regional")))
    encoder(pixel_values)
    for handle in handles:
        handle.remove()
    return seen


def converted(checkpoint: dict, encoder: RegionViTModel) -> dict[str, torch.Tensor]:
    """The tensors of the original that depend on the window, made for the model's."""
    window = encoder.config.window_size
    tables = {key: torch.from_numpy(table) for key, table in checkpoint.items() if key.endswith(".rel_pos")}
    return {
        "converted_cls_token.proj.weight": encoder.embeddings.regional_projection.weight,
        **{f"converted_{key}": resize_table(table, window) for key, table in tables.items()},
    }


def compute_detection(case: Case) -> dict[str, torch.Tensor]:
    """The backbone's maps, which a detector calls res2 to res5."""
    backbone = convert("regionvit", case.config["backbone"], case.checkpoint())
    maps = backbone(torch.from_numpy(case.inputs()["pixel_values"])).feature_maps
    return with_channels(case, {f"backbone_res{index}": map_ for index, map_ in enumerate(maps, start=2)})
