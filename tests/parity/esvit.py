"""Golden cases of microsoft/esvit: backbones, full checkpoints, losses, steps, schedules."""

from itertools import groupby

import torch
from transformers import PreTrainedModel

from hf_vits.conversion import convert
from hf_vits.models.cvt.modeling_cvt import CvtModel
from hf_vits.objectives import EsViTLoss
from hf_vits.objectives.esvit import match_regions
from hf_vits.pretraining.linear_probe.modeling_linear_probe import layer_features

from .golden import Case, Config
from .record import eager_attentions, recording
from .self_distillation import check_head, compute_steps, head_fields, views_of_step
from .self_supervision import (
    LOSS_FIELDS,
    MIXUP,
    compute_dino_loss,
    compute_schedules,
    mixing_of,
    set_center,
    temperatures,
    tensors,
)


def compute(case: Case) -> dict[str, torch.Tensor]:
    return COMPUTE.get(case.path.stem.split("_")[0], compute_backbone)(case)


# What no tensor records. Configurations of CvT have their names in small letters or in capitals.
SWIN_FIELDS = {"window_size": "window_size", "img_size": "image_size", "drop_path_rate": "drop_path_rate"}
CVT_FIELDS = {
    "num_heads": "num_attention_heads",
    "patch_stride": "patch_strides",
    "patch_padding": "patch_paddings",
    "drop_path_rate": "drop_path_rate",
}


def backbone_fields(config: Config) -> tuple[str, dict]:
    """A variant of the kind of backbone, and what no tensor records of the one that a case describes."""
    if "depths" in config:
        return "swin_tiny_window7", config.renamed(SWIN_FIELDS)
    fields = config.renamed(CVT_FIELDS) | config.renamed({name.upper(): ours for name, ours in CVT_FIELDS.items()})
    windows = config["window_size"] if "window_size" in config else config["WINDOW_SIZE"]
    return "cvt_tiny_window7", fields | {"window_size": windows[0]}


def check_backbone(config: Config, built) -> None:
    """Compare what the file recorded of a backbone, and what all here have, with the case's configuration."""
    if "depths" in config:
        width = built.hidden_sizes[0]
        config.check(
            patch_size=built.patch_size,
            dim_embed=width,
            embed_dim=width,
            depths=built.depths,
            num_heads=built.num_attention_heads,
            mlp_ratio=built.mlp_ratio,
            qkv_bias=built.qkv_bias,
            drop_rate=built.hidden_dropout_prob,
            attn_drop_rate=built.attention_probs_dropout_prob,
            use_ape=built.use_absolute_embeddings,
            patch_norm=built.use_patch_norm,
        )
        return
    stages = len(built.depths)
    fields = {
        "init": "trunc_norm",
        "num_stages": stages,
        "rel_pos_embed": built.use_relative_position_bias,
        "shift": [False] * stages,
        "patch_size": built.patch_sizes,
        "window_size": [built.window_size] * stages,
        "dim_embed": built.hidden_sizes,
        "depth": built.depths,
        "mlp_ratio": built.mlp_ratios,
        "qkv_bias": [built.qkv_bias] * stages,
        "kernel_qkv": built.kernel_sizes,
        "padding_qkv": [size // 2 for size in built.kernel_sizes],
    }
    config.check(**fields, **{name.upper(): value for name, value in fields.items()})


def compute_backbone(case: Case) -> dict[str, torch.Tensor]:
    name, fields = backbone_fields(case.config)
    model = convert("esvit", name, case.checkpoint(), **fields)
    check_backbone(case.config, model.config)
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    modules = {f"stage{index}_last_block": stage.layers[-1] for index, stage in enumerate(model.stages)}
    if isinstance(model, CvtModel):
        embeddings = [model.embeddings, *(stage.embeddings for stage in model.stages[1:])]
        modules |= {f"stage{index}_embed": embedding for index, embedding in enumerate(embeddings)}
    with recording(modules) as seen:
        outputs = model(pixel_values, output_hidden_states=True)
    return seen | {
        **{f"stage{index}": feature_map for index, feature_map in enumerate(outputs.hidden_states[1:])},
        "pooled": outputs.pooler_output,
        "region_features": outputs.last_hidden_state,
        "linear_features_4blocks": layer_features(model, pixel_values, 4),
        "last_attention": eager_attentions(model, pixel_values=pixel_values)[-1],
    }


def compute_full(case: Case) -> dict[str, torch.Tensor]:
    """One entry of a full checkpoint, on crops of two sizes."""
    model = full_model(case, case.config)
    check_head(case.config, model.config)
    crops = groupby(tensors(case).values(), key=lambda crop: crop.shape[-1])
    logits, regions = model.teacher([torch.cat(list(same_size)) for _, same_size in crops])
    return {
        "view_projection": logits,
        "region_projection": torch.cat([size.logits.flatten(0, 1) for size in regions]),
        "region_features": torch.cat([size.features.flatten(0, 1) for size in regions]),
        "npatch": torch.tensor([size.features.shape[1] for size in regions]),
    }


def compute_loss(case: Case) -> dict[str, torch.Tensor]:
    return compute_region_loss(case) if case.path.stem.startswith("loss_ddino") else compute_dino_loss(case)


@torch.enable_grad()
def compute_region_loss(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    crops, batch, (regions, local_regions) = config["ncrops"], config["batch"], config["npatch"]
    sizes = [regions] * 2 + [local_regions] * (crops - 2)

    def split(flat: torch.Tensor) -> list[torch.Tensor]:
        return [part.unflatten(0, (batch, -1)) for part in flat.split([size * batch for size in sizes])]

    config.unused("use_mixup", *MIXUP)  # the original's loss over regions does not read the targets of mixed images
    views, student_regions = inputs["s_cls"].requires_grad_(), inputs["s_region"].requires_grad_()
    temperature = temperatures(config)[config["epoch"]]
    objective = EsViTLoss(views.shape[-1], teacher_temperature=temperature, **config.renamed(LOSS_FIELDS))
    set_center(objective.center, inputs["center"])
    set_center(objective.region_center, inputs["center_grid"])
    student_features = split(inputs["s_fea"])
    teacher_features = inputs["t_fea"].unflatten(0, (2, batch, regions))
    loss, _ = objective(
        views.unflatten(0, (crops, batch)),
        inputs["t_cls"].unflatten(0, (2, batch)),
        split(student_regions),
        inputs["t_region"].unflatten(0, (2, batch, regions)),
        student_features,
        teacher_features,
    )
    loss.backward()
    return {
        "loss": loss[None],
        "grad_s_cls": views.grad,
        "grad_s_region": student_regions.grad,
        "center_after": objective.center.value[None],
        "center_grid_after": objective.region_center.value[None],
        "match_student_crop1_to_teacher_crop0": match_regions(student_features[1], teacher_features[0]),
    }


def full_model(case: Case, config: Config) -> PreTrainedModel:
    """The model in training that a case's checkpoint, or one branch of it, is of."""
    name, fields = backbone_fields(config)
    if "layer_norm_eps" in case.config:
        fields["layer_norm_eps"] = case.config["layer_norm_eps"]
    heads = head_fields(case.config.get("head", case.config))
    model = convert("esvit", f"{name}_full", case.checkpoint(), backbone_config=fields, **heads)
    check_backbone(config, model.config.backbone_config)
    return model


def compute_two_steps(case: Case) -> dict[str, torch.Tensor]:
    model = full_model(case, case.config["model"])
    check_head(case.config["head"], model.config)
    case.config.check(use_dense_prediction=model.config.use_regions)
    case.config.check(drop_path=model.config.backbone_config.drop_path_rate)
    centers = {"center": "center"}
    if case.config["use_dense_prediction"]:
        centers["center_grid"] = "region_center"

    def forward(step: int):
        mixing = None
        if not case.config["use_dense_prediction"]:
            mixing = mixing_of({name: v for name, v in tensors(case).items() if name.startswith(f"step{step + 1}_")})
        return model(*views_of_step(case, step), mixing), {}

    case.config.unused("use_mixup", *MIXUP)
    return compute_steps(case, model, centers, forward)


COMPUTE = {
    "full": compute_full,
    "loss": compute_loss,
    "schedules": compute_schedules,
    "step": compute_two_steps,
}
