"""Callbacks of the Trainer around optimizer steps: momentum teacher, weight decay schedule, gradient clipping.

They follow facebookresearch/dino (main_dino.py, utils.py), as do iBOT, AttMask, EsViT and SiT. To clip each gradient
by its own norm, `TrainingArguments.max_grad_norm` must be 0.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from hf_vits.pretraining.self_distillation import SelfDistillationModel


def unwrapped(model: Any) -> SelfDistillationModel:
    """Return the model without the wrapper of data parallelism."""
    return getattr(model, "module", model)


class TeacherUpdate(TrainerCallback):
    """Updates the teacher as an EMA of the student: after every optimizer step, before it, or before the forward pass.

    Args:
        momentum: function from the number of steps done before to the weight of the teacher's own parameters.
    """

    def __init__(self, momentum: Callable[[int], float]):
        self.momentum = momentum

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if unwrapped(model).teacher_moves_first:
            unwrapped(model).update_teacher(self.momentum(state.global_step))

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if unwrapped(model).teacher_follows_before_step:
            unwrapped(model).update_teacher(self.momentum(state.global_step))

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if not (unwrapped(model).teacher_moves_first or unwrapped(model).teacher_follows_before_step):
            unwrapped(model).update_teacher(self.momentum(state.global_step - 1))


class TeacherTemperature(TrainerCallback):
    """Sets the teacher's temperatures in each epoch.

    Args:
        schedules: {attribute of the objective: function from the number of epochs done to the temperature}.
    """

    def __init__(self, schedules: Mapping[str, Callable[[int], float]]):
        self.schedules = dict(schedules)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        for name, schedule in self.schedules.items():
            setattr(unwrapped(model).objective, name, schedule(int(state.epoch)))


class WeightDecaySchedule(TrainerCallback):
    """Sets the weight decay before every step, for parameter groups whose weight decay is not 0.

    Args:
        weight_decay: function from the number of steps done to the weight decay.
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
        limit: largest allowed norm.
    """

    def __init__(self, limit: float):
        self.limit = limit

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        clip_each(model.parameters(), self.limit)


class Progress(TrainerCallback):
    """Passes the fraction of the steps that are done to the parts of the model that change with it."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        for module in unwrapped(model).modules():
            if hasattr(module, "set_progress"):
                module.set_progress(state.global_step / state.max_steps)  # pyright: ignore[reportCallIssue]


class FrozenLastLayer(TrainerCallback):
    """Freezes the last layers of the student's head in the first epochs, so that the targets do not collapse.

    Args:
        epochs: number of epochs in which they are frozen.
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
def clip_each(parameters: Iterable[nn.Parameter], limit: float) -> tuple[torch.Tensor, ...]:
    """Clip every gradient to a norm of at most `limit`, in place, and return the norms before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch._foreach_norm(gradients)
    for gradient, norm in zip(gradients, norms, strict=True):
        gradient.mul_((limit / (norm + 1e-6)).clamp(max=1))
    return norms
