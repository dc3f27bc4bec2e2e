"""The learning rate over the steps of a run."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .recipe import ScheduleRecipe, steps_of


def build_schedule(
    optimizer: Optimizer, recipe: ScheduleRecipe, peak: float, total_steps: int, steps_per_epoch: int
) -> LambdaLR:
    """Scheduler that multiplies each group's own learning rate by that of the recipe over `peak`."""
    rate = learning_rate(recipe, peak, total_steps, steps_per_epoch)
    return LambdaLR(optimizer, lambda step: rate(step) / peak)


def learning_rate(
    recipe: ScheduleRecipe, peak: float, total_steps: int, steps_per_epoch: int
) -> Callable[[int], float]:
    """Function from the number of steps done to the learning rate of the next.

    Sources: google-research/big_vision, utils.py, `create_learning_rate_schedule`; timm's cosine with warm-up and
    cooldown, which however steps by epoch and counts the cosine from the start of the warm-up.
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
