"""Golden cases of facebookresearch/mae: models, position tables, optimizer, layer decay, learning rate."""

import re

import numpy as np
import torch
from torch import nn

from hf_vits.conversion import convert
from hf_vits.conversion.core import apply_transforms
from hf_vits.conversion.systems import mae
from hf_vits.layers.patch import cut_patches
from hf_vits.layers.position import interpolate_positions, sine_cosine_positions_2d
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification
from hf_vits.optim.optimizers import Lars, parameter_groups
from hf_vits.optim.schedules import learning_rate
from hf_vits.recipe import OptimizerRecipe, ScheduleRecipe

from .golden import Case, Config
from .record import recording


def compute(case: Case) -> dict[str, torch.Tensor]:
    if "embed_dim" in case.config:
        return compute_mae(case) if "decoder_depth" in case.config else compute_classifier(case)
    return next(function for start, function in COMPUTE.items() if case.path.stem.startswith(start))(case)


def check(config: Config, built) -> None:
    """Compare what the file recorded of the model with the case's configuration."""
    config.check(
        patch_size=built.patch_size,
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        mlp_ratio=built.intermediate_size / built.hidden_size,
        qkv_bias=built.qkv_bias,
        image_size=built.image_size,
    )


def compute_mae(case: Case) -> dict[str, torch.Tensor]:
    config = case.config
    overrides = {
        "num_attention_heads": config["num_heads"],
        "decoder_num_attention_heads": config["decoder_num_heads"],
        "layer_norm_eps": config["layer_norm_eps"],
        "mask_ratio": config["mask_ratio"],
        "normalize_targets": config["norm_pix_loss"],
    }
    model = convert("mae", "mae_vit_base_patch16", case.checkpoint(), **overrides)
    built = model.config
    check(config, built)
    config.check(
        decoder_embed_dim=built.decoder_hidden_size,
        decoder_depth=built.decoder_num_hidden_layers,
        mlp_ratio=built.decoder_intermediate_size / built.decoder_hidden_size,
    )
    image, noise = (torch.from_numpy(case.inputs()[name]) for name in ("image", "noise"))
    with recording({"hidden_block0": model.model.layers[0]}) as seen:
        outputs = model(image, noise)
    targets = cut_patches(image, (config["patch_size"],) * 2)
    side = config["image_size"] // config["patch_size"]
    return seen | {
        "loss": outputs.loss[None],
        "loss_per_patch": model.objective.errors(outputs.logits, targets),
        "mask": outputs.mask.float(),
        "ids_restore": outputs.ids_restore,
        "latent": outputs.last_hidden_state,
        "pred": outputs.logits,
        "target_patches": targets,
        "pred_mean": outputs.logits.mean(dim=-1),
        "pred_std": outputs.logits.std(dim=-1),
        "reconstruction": model.paint(outputs.logits, (side, side)),
    }


def compute_classifier(case: Case) -> dict[str, torch.Tensor]:
    config, checkpoint = case.config, case.checkpoint()
    fields = {"num_attention_heads": config["num_heads"], "layer_norm_eps": config["layer_norm_eps"]}
    model = convert("mae", "vit_base_patch16", checkpoint, **fields)
    check(config, model.config)
    config.check(
        global_pool=model.config.pooling == "mean",
        num_classes=model.config.num_labels,
        head_batchnorm="head.0.running_mean" in checkpoint,
    )
    encoder = model.model
    modules = {"hidden_block0": encoder.layers[0], "tokens_last_block": encoder.layers[-1]}
    with recording(modules) as seen:
        pooled = encoder(torch.from_numpy(case.inputs()["image"])).pooler_output
    return seen | {"pooled": pooled, "logits": model.classifier(pooled)}


def compute_sincos(case: Case) -> dict[str, torch.Tensor]:
    tables, config = {}, case.config
    config.check(class_token_row="zeros, first")
    row_step, width = config["row_step"], int(config["column_step"].removeprefix("dim // "))
    for name in case.meta["outputs"]:
        channels, side = map(int, re.findall(r"\d+", name))
        table = sine_cosine_positions_2d((side, side), channels, include_end=False)
        table = nn.functional.pad(table, (0, 0, 1, 0))[0]
        tables[name] = table[::row_step, :: channels // width]
    return tables


def compute_interpolation(case: Case) -> dict[str, torch.Tensor]:
    resized = {}
    case.config.check(align_corners=False)
    for name, table in case.inputs().items():
        channels, old, new = map(int, re.findall(r"\d+", name))
        table = interpolate_positions(torch.from_numpy(table), (old, old), (new, new), case.config["mode"])
        resized[name] = table[:, ::7, :: channels // 64]
    return resized


def compute_lars(case: Case) -> dict[str, torch.Tensor]:
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    parameters = {
        name.removeprefix("param/"): nn.Parameter(value) for name, value in inputs.items() if name.startswith("param/")
    }
    optimizer = Lars(parameters.values(), **case.config)
    steps = {}
    for step in range(3):
        for name, parameter in parameters.items():
            parameter.grad = inputs[f"grad{step}/{name}"]
        optimizer.step()
        steps |= {f"step{step}/{name}": parameter.detach().clone() for name, parameter in parameters.items()}
    return steps


def compute_layer_decay(case: Case) -> dict[str, torch.Tensor]:
    """Factors, decays and layers of every parameter, by the names that the original has for them."""
    computed = {}
    for size, config in case.config.items():
        names = case.meta["parameter_names"][size]
        depth, decay = config["depth"], config["layer_decay"]
        model = ViTForImageClassification(
            ViTConfig(
                hidden_size=4,
                num_attention_heads=1,
                intermediate_size=4,
                num_hidden_layers=depth,
                pooling="mean",
                norm_after_pooling=config["global_pool"],
            )
        )
        recipe = OptimizerRecipe(learning_rate=1.0, layer_decay=decay, weight_decay=config["weight_decay"])
        groups = {name: group for group in parameter_groups(model, recipe) for name in group["names"]}
        ours = apply_transforms({name: torch.empty(0) for name in names}, mae.transforms(model.config))
        rows = [(groups[name]["lr"], groups[name]["weight_decay"]) for name in ours]
        scales, decays = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
        computed |= {
            f"{size}_lr_scale": scales,
            f"{size}_weight_decay": decays,
            f"{size}_layer_id": depth + 1 - scales.log() / np.log(decay),
        }
    return computed


def compute_learning_rate(case: Case) -> dict[str, torch.Tensor]:
    rates = {}
    for name, config in case.config.items():
        recipe = ScheduleRecipe(warmup=f"{config['warmup_epochs']} epochs", min_learning_rate=config["min_lr"])
        rate = learning_rate(recipe, config["lr"], config["epochs"], steps_per_epoch=1)
        column = np.array([rate(epoch) for epoch in case.inputs()[f"{name}_epoch"]])
        rates[name] = torch.from_numpy(np.stack([0.5 * column, column], axis=1))
    return rates


COMPUTE = {
    "sincos_tables": compute_sincos,
    "pos_embed_interpolation": compute_interpolation,
    "lars": compute_lars,
    "layer_decay": compute_layer_decay,
    "lr_schedule": compute_learning_rate,
}
