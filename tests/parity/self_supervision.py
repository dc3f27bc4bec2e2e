"""What golden cases of several self-supervised systems share: losses of DINO and iBOT, schedules."""

import numpy as np
import torch

from hf_vits.objectives import DINOLoss, IBOTLoss
from hf_vits.optim.schedules import cosine, teacher_temperature

from .golden import Case, Config

# Options of how images were mixed, of which the targets are the result.
MIXUP = ("mixup", "cutmix", "cutmix_minmax", "mixup_prob", "mixup_switch_prob", "mixup_mode", "num_mixup_views")
MIXUP += ("smoothing",)
LOSS_FIELDS = {"student_temp": "student_temperature", "center_momentum": "center_momentum"}


def tensors(case: Case) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in case.inputs().items()}


def temperatures(config: Config, suffix: str = "") -> np.ndarray:
    """The teacher's temperature of every epoch, as a loss's case configures it; suffix "2" is that of patches."""
    schedule = teacher_temperature(
        config[f"warmup_teacher_temp{suffix}"],
        config[f"teacher_temp{suffix}"],
        config["warmup_teacher_temp_epochs"],
        first_masked_epoch(config) if suffix else 0,
    )
    return np.array([schedule(epoch) for epoch in range(config["nepochs"])])


def first_masked_epoch(config: Config) -> int:
    """The number of epochs without masks, an argument of the original's loss and of its script."""
    return next((config[name] for name in ("mim_start_epoch", "pred_start_epoch") if name in config), 0)


def compute_schedules(case: Case) -> dict[str, torch.Tensor]:
    """Every schedule of a case, value by value."""
    return {
        name: torch.from_numpy(temperature_values(spec) if "temp" in name else cosine_values(spec))
        for name, spec in case.config.items()
    }


def cosine_values(spec: Config | list) -> np.ndarray:
    if isinstance(spec, list):
        base, final, epochs, steps_per_epoch, *options = spec
        warmup_epochs = options[0]["warmup_epochs"] if options else 0
    else:
        base, final, epochs, steps_per_epoch = (spec[key] for key in ("base", "final", "epochs", "iters_per_epoch"))
        warmup_epochs = spec.get("warmup_epochs", 0)
    schedule = cosine(base, final, epochs * steps_per_epoch, warmup_epochs * steps_per_epoch)
    return np.array([schedule(step) for step in range(epochs * steps_per_epoch)])


def temperature_values(spec: Config) -> np.ndarray:
    schedule = teacher_temperature(
        spec["warmup"], spec["final"], spec["warmup_epochs"], spec.get("mim_start_epoch", 0)
    )
    return np.array([schedule(epoch) for epoch in range(spec["epochs"])])


def set_center(center: torch.nn.Module, value: torch.Tensor) -> None:
    center.value.copy_(value.flatten())


def mixing_of(inputs: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """The targets of mixed images (crops, batch, batch), in one tensor or in one per crop; None if there are none."""
    targets = [value for name, value in inputs.items() if "targets" in name or "mix" in name]
    if len(targets) == 1 and targets[0].ndim == 3:
        return targets[0]
    return torch.stack(targets) if targets else None


@torch.enable_grad()
def compute_dino_loss(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    schedule = temperatures(config)
    student = inputs["student_output"].requires_grad_()
    config.check(out_dim=student.shape[1])
    objective = DINOLoss(
        student.shape[1], teacher_temperature=schedule[config["epoch"]], **config.renamed(LOSS_FIELDS)
    )
    set_center(objective.center, inputs["center"])
    crops = student.unflatten(0, (config["ncrops"], config["batch"]))
    mixing = mixing_of(inputs)
    config.check(use_mixup=mixing is not None)
    config.unused(*MIXUP)
    loss, _ = objective(crops, inputs["teacher_output"].unflatten(0, (2, config["batch"])), mixing)
    loss.backward()
    return {
        "loss": loss[None],
        "grad_student_output": student.grad,
        "center_after": objective.center.value[None],
        "teacher_temp_schedule": torch.from_numpy(schedule),
        "teacher_temp": torch.tensor([schedule[config["epoch"]]]),
    }


@torch.enable_grad()
def compute_ibot_loss(case: Case) -> dict[str, torch.Tensor]:
    config, inputs = case.config, tensors(case)
    schedule, patch_schedule = temperatures(config), temperatures(config, suffix="2")
    views = (config["ngcrops"], config["batch"])
    student = [
        inputs[name].requires_grad_()
        for name in ("student_cls", "student_patch", "student_local_cls")
        if name in inputs
    ]
    num_local = len(student[2]) // config["batch"] if len(student) > 2 else 0
    config.check(nlcrops=num_local)
    objective = IBOTLoss(
        student[0].shape[-1],
        student[1].shape[-1],
        teacher_temperature=schedule[config["epoch"]],
        teacher_patch_temperature=patch_schedule[config["epoch"]],
        **config.renamed(LOSS_FIELDS | {"center_momentum2": "patch_center_momentum"}),
        class_weight=config.get("lambda1", 1.0),
        patch_weight=config.get("lambda2", 1.0),
    )
    set_center(objective.center, inputs["center"])
    set_center(objective.patch_center, inputs["center2"])
    mask = inputs["mask"].flatten(1)
    loss, logged = objective(
        torch.cat([student[0], *student[2:]]).unflatten(0, (-1, config["batch"])),
        inputs["teacher_cls"].unflatten(0, views),
        student[1][mask],
        inputs["teacher_patch"][mask],
        mask.unflatten(0, views),
        inputs["teacher_patch"].mean(dim=(0, 1)),
    )
    loss.backward()
    return {
        "loss": loss[None],
        "loss_cls": logged["class_loss"][None],
        "loss_patch": logged["patch_loss"][None],
        "grad_student_cls": student[0].grad,
        "grad_student_patch": student[1].grad,
        "grad_student_local_cls": student[2].grad if len(student) > 2 else None,
        "center_after": objective.center.value[None],
        "center2_after": objective.patch_center.value[None, None],
        "teacher_temp_schedule": torch.from_numpy(schedule),
        "teacher_temp2_schedule": torch.from_numpy(patch_schedule),
    }
