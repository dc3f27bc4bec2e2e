"""What golden cases of DINO, iBOT, AttMask and EsViT share: backbones, and steps of students and teachers."""

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerState

from hf_vits.conversion import convert, system
from hf_vits.conversion.core import apply_transforms
from hf_vits.optim.schedules import teacher_temperature
from hf_vits.pretraining.linear_probe.modeling_linear_probe import layer_features
from hf_vits.training.loop.callbacks import (
    ClipEachGradient,
    FrozenLastLayer,
    TeacherTemperature,
    TeacherUpdate,
    WeightDecaySchedule,
)

from .golden import Case
from .record import eager_attentions, recording


def variant(config: dict) -> str:
    if config["arch"].startswith("swin"):
        return f"{config['arch']}_window{config['window_size']}"
    return f"{config['arch']}_patch{config['patch_size']}"


def compute_backbone(case: Case) -> dict[str, torch.Tensor]:
    return compute_swin(case) if case.config["arch"].startswith("swin") else compute_vit(case)


def compute_swin(case: Case) -> dict[str, torch.Tensor]:
    model = convert(case.system, variant(case.config), case.checkpoint())
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    blocks = [layer for stage in model.stages for layer in stage.layers]
    with recording({f"block_{index}": block for index, block in enumerate(blocks[-4:])}) as seen:
        outputs = model(inputs["pixel_values"])
    features = [seen[f"block_{index}"] for index in range(4)]
    # The last norm is for the last stage alone.
    last = len(model.stages[-1].layers)
    features = [*features[:-last], *(model.norm(feature) for feature in features[-last:])]
    intermediate = [with_mean(feature, feature.mean(dim=1)) for feature in features]
    computed = {f"intermediate_{index}": tokens for index, tokens in enumerate(intermediate)}
    computed |= {
        "tokens": with_mean(outputs.last_hidden_state, outputs.pooler_output),
        "pooled": outputs.pooler_output,
        "last_attention": eager_attentions(model, pixel_values=inputs["pixel_values"])[-1],
        "linear_features_4blocks": layer_features(model, inputs["pixel_values"], 4),
    }
    if "mask" in inputs:
        outputs = model(inputs["pixel_values"], bool_masked_pos=inputs["mask"].flatten(1))
        computed["tokens_masked"] = with_mean(outputs.last_hidden_state, outputs.pooler_output)
    return computed


def with_mean(tokens: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """What stands for the class token in front of the tokens."""
    return torch.cat([mean[:, None], tokens], dim=1)


def compute_vit(case: Case) -> dict[str, torch.Tensor]:
    model = convert(case.system, variant(case.config), case.checkpoint())
    pixel_values = torch.from_numpy(case.inputs()["pixel_values"])
    with recording({"pos_embed_used": model.embeddings.position_embedding}) as seen:
        outputs = model(pixel_values)
    attention = eager_attentions(model, pixel_values=pixel_values)[-1]
    return seen | {
        "cls": outputs.pooler_output,
        "last_hidden_state": outputs.last_hidden_state,
        "last_attention": attention,
        "cls_attention_mean": attention[:, :, 0, 1:].mean(dim=1),
        "linear_features_4blocks": layer_features(model, pixel_values, 4),
        "linear_features_1block_avgpool": layer_features(model, pixel_values, 1, patch_mean=True),
    }


def tiny_backbone(config: dict) -> dict:
    """`backbone_config` of the tiny ViT of a step."""
    return {
        "hidden_size": config["embed_dim"],
        "num_hidden_layers": config["depth"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": int(config["embed_dim"] * config["mlp_ratio"]),
        "patch_size": config["patch_size"],
        "position_interpolation": "bicubic_offset",
    }


def tiny_model(case: Case, **overrides) -> PreTrainedModel:
    """The model whose steps a case holds, as its checkpoint has it."""
    loss = case.config["loss"]
    overrides |= {"student_temperature": loss["student_temp"], "center_momentum": loss["center_momentum"]}
    name = "vit_small_patch16_full"
    return convert(case.system, name, case.checkpoint(), backbone_config=tiny_backbone(case.config), **overrides)


class Names:
    """The original's names of a student's or teacher's parameters and buffers, and ours."""

    def __init__(self, case: Case, model: PreTrainedModel):
        self.case, self.system = case, system(case.system)
        self.renamings = self.system.transforms(model.config)
        self.tensors = dict(model.named_parameters()) | dict(model.named_buffers())

    def tensor(self, branch: str, name: str) -> torch.Tensor | None:
        """What the original calls `name`; None for a table that we make. A shared layer has two names there."""
        key = getattr(self.system, "named_part", str)(f"{branch}.{name}")
        (ours,) = apply_transforms({key: torch.empty(0)}, self.renamings)
        return self.tensors.get(ours, self.tensors.get(ours.replace("patch_", "last_")))

    def student_parameters(self) -> list[nn.Parameter]:
        """Each once, in the order of the original's."""
        prefix = "student.module."
        names = [key.removeprefix(prefix) for key in self.case.meta["keys"] if key.startswith(prefix)]
        tensors = [self.tensor("student", name) for name in names]
        return list({id(tensor): tensor for tensor in tensors if isinstance(tensor, nn.Parameter)}.values())


@torch.enable_grad()
def compute_steps(case: Case, model: PreTrainedModel, centers: dict[str, str], forward) -> dict[str, torch.Tensor]:
    """Two optimizer steps of a tiny model, one an epoch, with the Trainer's callbacks around them.

    Args:
        centers: {output: name of the objective's centre}.
        forward: from the number of the step to the model's output and further computed values.
    """
    config, names, state = case.config, Names(case, model.train()), TrainerState()
    parameters = names.student_parameters()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1 and p.requires_grad], "weight_decay": 1.0},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
    )
    before = [
        TeacherTemperature(temperature_schedules(config["loss"])),
        WeightDecaySchedule(lambda step: config["weight_decay"][step]),
    ]
    clip, freeze = ClipEachGradient(config["clip_grad"]), FrozenLastLayer(config["freeze_last_layer"])
    follow = TeacherUpdate(lambda step: config["momentum_teacher"][step])
    computed = {}
    for step, epoch in enumerate(config["epochs"]):
        state.epoch = float(epoch)
        for callback in before:
            callback.on_step_begin(None, state, None, model=model, optimizer=optimizer)
        for group in optimizer.param_groups:
            group["lr"] = config["lr"][step]
        outputs, more = forward(step)
        optimizer.zero_grad()
        outputs.loss.backward()
        norms = [p.grad.norm() for p in parameters if p.grad is not None]
        clip.on_pre_optimizer_step(None, state, None, model=model)
        gradients = {id(p): p.grad.clone() for p in parameters if p.grad is not None}
        freeze.on_pre_optimizer_step(None, state, None, model=model)
        optimizer.step()
        state.global_step += 1
        follow.on_step_end(None, state, None, model=model)
        computed |= {f"step{step + 1}/{name}": value for name, value in more.items()}
        computed |= {
            f"step{step + 1}/loss": outputs.loss[None],
            f"step{step + 1}/grad_norms_before_clip": torch.stack(norms),
        }
        for name, center in centers.items():
            computed[f"step{step + 1}/{name}"] = getattr(model.objective, center).value.clone()
        for output in case.meta["outputs"]:
            when, _, name = output.partition("/")
            kind, _, name = name.partition("/")
            if when == f"step{step + 1}" and name:
                branch = "teacher" if kind == "teacher" else "student"
                tensor = names.tensor(branch, name)
                computed[output] = gradients[id(tensor)] if kind == "grad_after_clip" else tensor.detach().clone()
    return {name: as_in_case(case, name, value) for name, value in computed.items()}


def as_in_case(case: Case, name: str, value: torch.Tensor) -> torch.Tensor:
    """In the shape of the case, which may have axes of one more or less."""
    shape = case.meta.get("cuts", {}).get(name, {}).get("full_shape", case.meta["outputs"][name]["shape"])
    return value.reshape(shape)


def temperature_schedules(loss: dict) -> dict:
    """{attribute of the objective: schedule}."""
    schedules = {}
    for attribute, infix in (("teacher_temperature", ""), ("teacher_patch_temperature", "patch_")):
        if f"teacher_{infix}temp" in loss:
            schedules[attribute] = teacher_temperature(
                loss[f"warmup_teacher_{infix}temp"], loss[f"teacher_{infix}temp"], loss["warmup_teacher_temp_epochs"]
            )
    return schedules


def views_of_step(case: Case, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Global and local views of a step, (batch, views, channels, height, width)."""
    inputs = case.inputs()
    views = {
        kind: [torch.from_numpy(view) for name, view in inputs.items() if name.startswith(f"step{step + 1}_{kind}")]
        for kind in ("global", "local")
    }
    return torch.stack(views["global"], dim=1), torch.stack(views["local"], dim=1)
