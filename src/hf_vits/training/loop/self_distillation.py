"""What happens around the steps of a student whose teacher follows it: callbacks of the Trainer.

As facebookresearch/dino has it (main_dino.py, utils.py), and iBOT, AttMask, EsViT and SiT after it. For per-parameter
clipping, `TrainingArguments.max_grad_norm` is 0.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from hf_vits.pretraining.self_distillation import SelfDistillationModel


def unwrapped(model: Any) -> SelfDistillationModel:
    """The model inside what data parallelism wraps around it."""
    return getattr(model, "module", model)


class TeacherUpdate(TrainerCallback):
    """After every optimizer step, however many passes it took: the teacher moves towards the student.

    Args:
        momentum: weight of the teacher's own weights, from the number of steps done before.
    """

    def __init__(self, momentum: Callable[[int], float]):
        self.momentum = momentum

    def on_step_end(self, args, state, control, model=None, **kwargs):
        unwrapped(model).update_teacher(self.momentum(state.global_step - 1))


class TeacherTemperature(TrainerCallback):
    """Sets the teacher's temperatures, epoch by epoch.

    Args:
        schedules: {attribute of the objective: temperature from the number of epochs done}.
    """

    def __init__(self, schedules: Mapping[str, Callable[[int], float]]):
        self.schedules = dict(schedules)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        for name, schedule in self.schedules.items():
            setattr(unwrapped(model).objective, name, schedule(int(state.epoch)))


class WeightDecaySchedule(TrainerCallback):
    """Sets the weight decay, step by step, of the parameters that have any.

    Args:
        weight_decay: from the number of steps done.
    """

    def __init__(self, weight_decay: Callable[[int], float]):
        self.weight_decay = weight_decay

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        for group in optimizer.param_groups:
            if group["weight_decay"]:
                group["weight_decay"] = self.weight_decay(state.global_step)


class ClipEachGradient(TrainerCallback):
    """Clips the gradient of every parameter by its own norm.

    Args:
        limit: largest norm.
    """

    def __init__(self, limit: float):
        self.limit = limit

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        clip_each(model.parameters(), self.limit)


class FrozenLastLayer(TrainerCallback):
    """Keeps the head's last layers as they are at first, so that the targets do not collapse.

    Args:
        epochs: for how many.
    """

    PATTERN = re.compile(r"head\.(last|patch)_layer\.")

    def __init__(self, epochs: int):
        self.epochs = epochs

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if int(state.epoch) < self.epochs:
            for name, parameter in model.named_parameters():
                if self.PATTERN.search(name):
                    parameter.grad = None


@torch.no_grad()
def clip_each(parameters: Iterable[nn.Parameter], limit: float) -> Sequence[torch.Tensor]:
    """Scale every gradient whose norm is above `limit` down to it, in place; returns the norms before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch._foreach_norm(gradients)
    for gradient, norm in zip(gradients, norms, strict=True):
        gradient.mul_((limit / (norm + 1e-6)).clamp(max=1))
    return norms
