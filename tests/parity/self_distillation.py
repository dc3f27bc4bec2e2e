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

from .golden import Case, Config
from .record import eager_attentions, recording
from .self_supervision import first_masked_epoch

# Heads of the factory functions, which are 64 wide throughout.
HEADS = {"vit_tiny": 3, "vit_small": 6, "vit_base": 12, "vit_large": 16}


def backbone_fields(config: Config) -> tuple[str, dict]:
    """A variant of the kind of backbone, and what no tensor records of the one that a case names."""
    if "window_size" in config and config["window_size"] is not None:
        return "swin_tiny_window7", config.renamed({"window_size": "window_size", "img_size": "image_size"})
    heads = config["num_heads"] if "num_heads" in config else HEADS[config["arch"]]
    return "vit_small_patch16", {"num_attention_heads": heads}


def check_backbone(config: Config, built) -> None:
    """Compare what the file recorded of a backbone with the case's configuration."""
    config.check(
        img_size=built.image_size,
        patch_size=built.patch_size,
        window_size=getattr(built, "window_size", None),
        qkv_bias=built.qkv_bias,
        layer_norm_eps=built.layer_norm_eps,
    )
    if hasattr(built, "depths"):
        config.check(depths=built.depths, embed_dim=built.hidden_sizes[0], num_heads=built.num_attention_heads)
        if "depths" not in config:
            config.check(arch={(2, 2, 6, 2): "swin_tiny", (2, 2, 18, 2): "swin_small"}.get(tuple(built.depths)))
        return
    config.check(
        embed_dim=built.hidden_size,
        depth=built.num_hidden_layers,
        mlp_ratio=built.intermediate_size / built.hidden_size,
        drop_path=built.drop_path_rate,
        drop_path_rate=built.drop_path_rate,
    )
    if "arch" in config:
        assert built.hidden_size == 64 * HEADS[config["arch"]], f"{config['arch']} is not {built.hidden_size} wide"


def head_fields(head: Config) -> dict:
    """What no tensor records of the heads."""
    return {"train_magnitude": not head["norm_last_layer"]}


def check_head(head: Config, built) -> None:
    """Compare what the file recorded of the heads with the case's configuration."""
    head.check(
        out_dim=built.num_prototypes,
        patch_out_dim=getattr(built, "num_patch_prototypes", None),
        hidden_dim=built.head_hidden_size,
        bottleneck_dim=built.head_bottleneck_size,
        nlayers=built.num_head_layers,
        use_bn=built.head_norm == "batch_norm",
        use_bn_in_head=built.head_norm == "batch_norm",
        norm={"batch_norm": "bn", "layer_norm": "ln", None: None}[built.head_norm],
        act="gelu",
        shared_head=getattr(built, "share_head", None),
        shared_head_teacher=getattr(built, "share_teacher_head", None),
    )


def full_model(case: Case, **overrides) -> PreTrainedModel:
    """The model in training that a case's checkpoint, or one branch of it, is of."""
    config = case.config
    name, fields = backbone_fields(config)
    overrides |= head_fields(config.get("head", config))
    model = convert(case.system, f"{name}_full", case.checkpoint(), backbone_config=fields, **overrides)
    check_backbone(config, model.config.backbone_config)
    return model


def compute_backbone(case: Case) -> dict[str, torch.Tensor]:
    name, fields = backbone_fields(case.config)
    model = convert(case.system, name, case.checkpoint(), **fields)
    check_backbone(case.config, model.config)
    return compute_vit(case, model) if name.startswith("vit") else compute_swin(case, model)


def compute_swin(case: Case, model: PreTrainedModel) -> dict[str, torch.Tensor]:
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
    """Return the vector that takes the class token's place in front of the tokens."""
    return torch.cat([mean[:, None], tokens], dim=1)


def compute_vit(case: Case, model: PreTrainedModel) -> dict[str, torch.Tensor]:
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


def tiny_model(case: Case, **overrides) -> PreTrainedModel:
    """The model whose steps a case holds, as its checkpoint has it."""
    config, loss = case.config, case.config["loss"]
    overrides |= {"student_temperature": loss["student_temp"], "center_momentum": loss["center_momentum"]}
    model = full_model(case, **overrides)
    check_head(config["head"], model.config)
    return model


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
        """Return each name once, in the original's order."""
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
    config.check(fp16=False, iterations_per_epoch=1)
    assert config["optimizer"].startswith("AdamW"), f"no such optimizer here: {config['optimizer']}"
    epochs, loss = config.get("epochs", range(len(config["lr"]))), config.get("loss", {})
    assert max(epochs) < loss.get("nepochs", float("inf")), f"epochs {epochs} of {loss['nepochs']}"
    parameters = names.student_parameters()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1 and p.requires_grad], "weight_decay": 1.0},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
    )
    before = [
        TeacherTemperature(temperature_schedules(loss)),
        WeightDecaySchedule(lambda step: config["weight_decay"][step]),
    ]
    clip, freeze = ClipEachGradient(config["clip_grad"]), FrozenLastLayer(config.get("freeze_last_layer", 0))
    follow = TeacherUpdate(lambda step: config["momentum_teacher"][step])
    computed = {}
    for step, epoch in enumerate(epochs):
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
    """Return the value in the shape of the case, which may have more or fewer axes of length 1."""
    shape = case.meta.get("cuts", {}).get(name, {}).get("full_shape", case.meta["outputs"][name]["shape"])
    return value.reshape(shape)


def temperature_schedules(loss: Config | dict) -> dict:
    """{attribute of the objective: schedule}."""
    schedules = {}
    for attribute, infix in (("teacher_temperature", ""), ("teacher_patch_temperature", "patch_")):
        if f"teacher_{infix}temp" in loss:
            schedules[attribute] = teacher_temperature(
                loss[f"warmup_teacher_{infix}temp"],
                loss[f"teacher_{infix}temp"],
                loss["warmup_teacher_temp_epochs"],
                first_masked_epoch(loss) if infix else 0,
            )
    return schedules


def views_of_step(case: Case, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Global and local views of a step, (batch, views, channels, height, width)."""
    inputs = case.inputs()
    views = {
        kind: [torch.from_numpy(view) for name, view in inputs.items() if name.startswith(f"step{step + 1}_{kind}")]
        for kind in ("global", "local")
    }
    counts = {kind: len(of_kind) for kind, of_kind in views.items()}
    loss = case.config["loss"]
    loss.check(ncrops=sum(counts.values()), ngcrops=counts["global"], nlcrops=counts["local"])
    case.config.check(local_size=views["local"][0].shape[-1])
    return torch.stack(views["global"], dim=1), torch.stack(views["local"], dim=1)
