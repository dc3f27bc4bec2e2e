"""Schedules over the steps of a run: learning rate, weight decay, momentum and temperature of a teacher."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hf_vits.recipe import ScheduleRecipe
from hf_vits.recipe.fields import steps_of


def build_schedule(
    optimizer: Optimizer, recipe: ScheduleRecipe, peak: float, total_steps: int, steps_per_epoch: int
) -> LambdaLR:
    """Return the scheduler that multiplies each group's learning rate by the schedule's value relative to `peak`."""
    rate = learning_rate(recipe, peak, total_steps, steps_per_epoch)
    return LambdaLR(optimizer, lambda step: rate(step) / peak)


def learning_rate(
    recipe: ScheduleRecipe, peak: float, total_steps: int, steps_per_epoch: int
) -> Callable[[int], float]:
    """Return the function from the number of steps done to the learning rate of the next step.

    Sources: google-research/big_vision, utils.py, `create_learning_rate_schedule`; timm's cosine with warm-up and
    cooldown, which changes by epoch instead and counts the cosine from the start of the warm-up.

    Raises:
        ValueError: warm-up and cooldown are longer than the run.
    """
    warmup = steps_of(recipe.warmup, steps_per_epoch)
    cooldown = steps_of(recipe.cooldown, steps_per_epoch)
    timescale = steps_of(recipe.timescale, steps_per_epoch)
    if warmup + cooldown > total_steps:
        raise ValueError(
            f"schedule.warmup ({warmup} steps) and schedule.cooldown ({cooldown} steps) are longer than the run "
            f"of {total_steps} steps"
        )
    decay_steps = max(total_steps - warmup - cooldown, 1)
    low = recipe.min_learning_rate
    if recipe.kind == "closed_cosine":
        falling = cosine(peak, low, total_steps - cooldown, warmup, recipe.warmup_learning_rate)
        return lambda step: falling(min(step, total_steps - cooldown))

    def rate(step: int) -> float:
        if step < warmup:
            return recipe.warmup_learning_rate + (peak - recipe.warmup_learning_rate) * step / warmup
        done = min((step - warmup) / decay_steps, 1.0)
        if recipe.kind == "cosine":
            return low + (peak - low) * (1 + math.cos(math.pi * done)) / 2
        if recipe.kind == "linear":
            return peak + (low - peak) * done
        value = peak / math.sqrt(1 + (step - warmup) / timescale) if recipe.kind == "rsqrt" else peak
        left = min((total_steps - step) / cooldown, 1.0) if cooldown else 1.0
        return low + (max(value, low) - low) * max(left, 0.0)

    return rate


def cosine(
    start: float,
    end: float,
    total_steps: int,
    warmup_steps: int = 0,
    warmup_start: float = 0.0,
    stays: bool = True,
) -> Callable[[int], float]:
    """Return the function from the number of steps done to a value along half a cosine, after a linear warm-up.

    As in DINO and its successors (facebookresearch/dino, utils.py, `cosine_scheduler`), for learning rate, weight
    decay and the teacher's momentum: the warm-up includes both its ends, so that `start` occurs twice, and `end` would
    be reached one step after the last.

    Args:
        stays: whether the value stays at `end` after the run; else it goes back along the cosine, as in Alxead/SFC.

    Raises:
        ValueError: the warm-up is longer than the run.
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"a warm-up of {warmup_steps} steps does not fit into a run of {total_steps}")

    def value(step: int) -> float:
        if step < warmup_steps:
            return warmup_start + (start - warmup_start) * step / max(warmup_steps - 1, 1)
        done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        done = min(done, 1.0) if stays else done
        return end + (start - end) * (1 + math.cos(math.pi * done)) / 2

    return value


def teacher_temperature(start: float, end: float, warmup_epochs: int, first_epoch: int = 0) -> Callable[[int], float]:
    """Return the function from the number of epochs done to the temperature of a teacher.

    Linear over the warm-up, both ends included, then constant (facebookresearch/dino, main_dino.py). Until
    `first_epoch` it stays at `start`, as iBOT's patch temperature does while nothing is masked (bytedance/ibot,
    main_ibot.py).
    """

    def value(epoch: int) -> float:
        done = max(epoch - first_epoch, 0)
        if done >= warmup_epochs and epoch >= first_epoch:
            return end
        return start + (end - start) * done / max(warmup_epochs - 1, 1)

    return value
