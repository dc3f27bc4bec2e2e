"""Golden cases of microsoft/esvit: backbones, full checkpoints, losses, steps, schedules."""

import re
from itertools import groupby

import torch

from hf_vits.conversion import convert
from hf_vits.models.cvt.modeling_cvt import CvtModel
from hf_vits.objectives import EsViTLoss
from hf_vits.objectives.esvit import match_regions
from hf_vits.pretraining.linear_probe.modeling_linear_probe import layer_features

from .golden import Case
from .record import eager_attentions, recording
from .self_distillation import compute_steps, views_of_step
from .self_supervision import compute_dino_loss, compute_schedules, set_center, temperatures, tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    return COMPUTE.get(case.path.stem.split("_")[0], compute_backbone)(case)


def variant(case: Case) -> str:
    """By the name of the original's configuration file, which a case begins its variant with."""
    if swin := re.match(r"swin/swin_(\w+)_patch4_window(\d+)_224\.yaml", case.meta["variant"]):
        return "swin_{}_window{}".format(*swin.groups())
    return {"cvt_v4/s1.yaml": "cvt_tiny_window7"}[case.meta["variant"].split()[0]]


def compute_backbone(case: Case) -> dict[str, torch.Tensor]:
    model = convert("esvit", variant(case), case.checkpoint())
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
    model = convert("esvit", f"{variant(case)}_full", case.checkpoint())
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

    views, student_regions = inputs["s_cls"].requires_grad_(), inputs["s_region"].requires_grad_()
    objective = EsViTLoss(views.shape[-1], teacher_temperature=temperatures(config)[config["epoch"]])
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


def tiny_swin(config: dict) -> dict:
    """`backbone_config` of the tiny Swin of a step."""
    return {
        "image_size": config["img_size"],
        "patch_size": config["patch_size"],
        "hidden_sizes": [config["embed_dim"] * 2**stage for stage in range(len(config["depths"]))],
        "depths": config["depths"],
        "num_attention_heads": config["num_heads"],
        "squeeze_sizes": [1] * len(config["depths"]),
        "window_size": config["window_size"],
        "mlp_ratio": config["mlp_ratio"],
        "drop_path_rate": config["drop_path_rate"],
    }


def tiny_cvt(config: dict) -> dict:
    """`backbone_config` of the tiny CvT of a step."""
    return {
        "hidden_sizes": config["DIM_EMBED"],
        "depths": config["DEPTH"],
        "num_attention_heads": config["NUM_HEADS"],
        "patch_sizes": config["PATCH_SIZE"],
        "patch_strides": config["PATCH_STRIDE"],
        "patch_paddings": config["PATCH_PADDING"],
        "mlp_ratios": config["MLP_RATIO"],
        "window_size": config["WINDOW_SIZE"][0],
        "drop_path_rate": config["DROP_PATH_RATE"],
    }


def compute_two_steps(case: Case) -> dict[str, torch.Tensor]:
    config = case.config["model"]
    if "img_size" in config:
        name, backbone_config = "swin_tiny_window7_full", tiny_swin(config)
    else:
        name, backbone_config = "cvt_tiny_window7_full", tiny_cvt(config)
    model = convert("esvit", name, case.checkpoint(), backbone_config=backbone_config)
    centers = {"center": "center"}
    if case.config["use_dense_prediction"]:
        centers["center_grid"] = "region_center"

    def forward(step: int):
        return model(*views_of_step(case, step)), {}

    return compute_steps(case, model, centers, forward)


COMPUTE = {
    "full": compute_full,
    "loss": compute_loss,
    "schedules": compute_schedules,
    "step": compute_two_steps,
}
