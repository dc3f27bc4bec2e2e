"""Golden cases of microsoft/esvit: losses, schedules."""

import torch

from hf_vits.objectives import EsViTLoss
from hf_vits.objectives.esvit import match_regions

from .golden import Case
from .self_supervision import compute_dino_loss, compute_schedules, set_center, temperatures, tensors


def compute(case: Case) -> dict[str, torch.Tensor]:
    if case.path.stem.startswith("loss_ddino"):
        return compute_region_loss(case)
    kind = case.path.stem.split("_")[0]
    return {"loss": compute_dino_loss, "schedules": compute_schedules}[kind](case)


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
