"""Golden cases of IBM/RegionViT: classifiers, and the backbones of its detectors."""

from math import isqrt

import torch

from hf_vits.conversion import convert, variants
from hf_vits.conversion.systems.regionvit import resize_table
from hf_vits.models.regionvit.modeling_regionvit import RegionViTModel

from .golden import Case, Config
from .record import with_channels


def compute(case: Case) -> dict[str, torch.Tensor]:
    config, checkpoint, overrides = case.config, case.checkpoint(), {}
    if "converted_kernel_sizes" in config:
        overrides["window_size"] = list(config["converted_kernel_sizes"])
        overrides["image_size"] = config["converted_img_size"]
    model = convert("regionvit", "regionvit_tiny_224", checkpoint, **overrides)
    check(config, checkpoint, model.config)
    encoder, pixel_values = model.model, torch.from_numpy(case.inputs()["pixel_values"])
    computed = record_maps(encoder, pixel_values)
    computed |= {"pooled": encoder(pixel_values).pooler_output, "logits": model(pixel_values).logits}
    return with_channels(case, computed) | converted(checkpoint, encoder)


def check(config: Config, checkpoint: dict, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    stages = len(built.depths)
    config.check(
        patch_size=built.patch_size,
        patch_conv_type=f"{built.num_conv_layers}conv",
        embed_dim=[built.hidden_sizes[0], *built.hidden_sizes],
        num_heads=built.num_attention_heads,
        mlp_ratio=built.mlp_ratio,
        depth=built.depths,
        peg=built.use_conv_position_embedding,
        downsampling=["c"] + ["sc"] * (stages - 1),
        num_classes=built.num_labels,
        kernel_sizes=[
            (isqrt(checkpoint[f"layers.{stage}.block.1.attn.rel_pos"].shape[1]) + 1) // 2 for stage in range(stages)
        ],
    )
    if "converted_kernel_sizes" in config:
        config.unused("img_size")  # of the model before its windows were changed
    else:
        config.check(img_size=built.image_size)


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
    windows = encoder.config.window_sizes
    tables = {key: torch.from_numpy(table) for key, table in checkpoint.items() if key.endswith(".rel_pos")}
    return {
        "converted_cls_token.proj.weight": encoder.embeddings.regional_projection.weight,
        **{f"converted_{key}": resize_table(table, windows[int(key.split(".")[1])]) for key, table in tables.items()},
    }


def compute_detection(case: Case) -> dict[str, torch.Tensor]:
    """The backbone's maps, which a detector calls res2 to res5."""
    config = case.config
    name = config["backbone"] if config["backbone"] in variants("regionvit") else "regionvit_tiny_224"
    backbone = convert("regionvit", name, case.checkpoint())
    config.check(det_norm=backbone.config.use_stage_norm)
    maps = backbone(torch.from_numpy(case.inputs()["pixel_values"])).feature_maps
    return with_channels(case, {f"backbone_res{index}": map_ for index, map_ in enumerate(maps, start=2)})
