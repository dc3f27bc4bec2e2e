"""Trials of a recipe before its run: a check of everything, and a search for the learning rate."""

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from hf_vits.figures.examples import draw_examples, draw_rates
from hf_vits.recipe import ScheduleRecipe, load_recipe

from .run import Built, build, count_inputs

EXAMPLES = "examples.png"
RATES = "learning_rates.png"
_CHECKED_STEPS = 3  # the first one is slower
_SMOOTHING = 0.9
_DIVERGED = 3.0  # times the lowest loss


def check(source: str | Path | dict[str, Any], overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Build everything of a recipe, draw a page of training examples, take three steps, and stop.

    The page is examples.png in the recipe's output directory; nothing else is written.

    Returns:
        Model, numbers of parameters and inputs, steps of the run, seconds per step and, without evaluations, of the
        whole run, peak memory in GB, and the path of the page.

    Raises:
        ValueError, OSError: as `hf_vits.training.train`.
    """
    recipe = load_recipe(source, [*overrides, "train.report_to=[]"])
    full = build(recipe)
    steps = full.trainer.args.max_steps
    page = Path(recipe.output.directory) / EXAMPLES
    page.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw_examples(next(iter(full.trainer.get_train_dataloader())), full.processor, page)
    times = StepTimes()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    _try(full, times)
    seconds = min(times.seconds, default=None)
    return {
        "model": type(full.model).__name__,
        "parameters": sum(parameter.numel() for parameter in full.model.parameters()),
        "classes": len(full.splits.class_names) or None,
        **count_inputs(full.splits, full.task.noun),
        "steps": steps,
        "seconds_per_step": seconds,
        "hours": None if seconds is None else steps * seconds / 3600,
        "peak_memory_gb": peak_memory() / 1e9,
        "examples": str(page) if drawn else None,
    }


def find_learning_rate(
    source: str | Path | dict[str, Any], overrides: Iterable[str] = (), *, steps: int = 100
) -> dict[str, Any]:
    """Try rising learning rates on a recipe, from 1e-6 to 1, and suggest the one where the loss falls fastest.

    The learning rate grows by the same factor at every step (arXiv 1506.01186); the trial ends when the smoothed loss
    is three times its lowest value. It draws learning_rates.png in the recipe's output directory, and writes nothing
    else.

    Returns:
        The suggested learning rate, the one at which the loss was lowest, and the path of the picture.
    """
    recipe = load_recipe(source, [*overrides, "train.report_to=[]"])
    recipe = dataclasses.replace(
        recipe,
        schedule=ScheduleRecipe(kind="constant"),
        train=dataclasses.replace(recipe.train, length=f"{steps} steps", log_every="1 step"),
    )
    built = build(recipe)
    trial = RisingRate(recipe.optimizer.learning_rate, np.geomspace(1e-6, 1, steps))
    with contextlib.suppress(FloatingPointError):  # it diverged
        _try(built, trial)
    losses = smoothed(trial.losses)
    rates = list(trial.rates[: len(losses)])
    best = suggestion(rates, losses)
    path = Path(recipe.output.directory) / RATES
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_rates(rates, losses, best, path)
    return {
        "learning_rate": best,
        "lowest_loss_at": float(rates[int(np.argmin(losses))]),
        "picture": str(path),
    }


def _try(built: Built, callback: TrainerCallback) -> None:
    """Train without evaluations and checkpoints until the callback stops it."""
    args = built.trainer.args
    args.save_strategy, args.eval_strategy = "no", "no"
    built.trainer.add_callback(callback)
    built.trainer.train()


class StepTimes(TrainerCallback):
    """Measures the time from the end of each step to the end of the next, with the loading of its batch.

    It stops the training after a few steps.
    """

    def __init__(self):
        self.seconds: list[float] = []
        self._before: float | None = None

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._before is not None:
            self.seconds.append(now - self._before)
        self._before = now
        if state.global_step >= _CHECKED_STEPS:
            control.should_training_stop = True


class RisingRate(TrainerCallback):
    """Sets the learning rate of every step, whatever the schedule, and keeps the losses.

    Args:
        peak: learning rate of the recipe; groups keep their factors of it.
        rates: learning rate of each step.
    """

    def __init__(self, peak: float, rates: Sequence[float] | np.ndarray):
        self.peak, self.rates, self.losses = peak, rates, []

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        rate = self.rates[min(state.global_step, len(self.rates) - 1)]
        for group in optimizer.param_groups:
            group["lr"] = rate * group["initial_lr"] / self.peak

    def on_log(self, args, state, control, logs, **kwargs):
        if logs is None or "loss" not in logs:
            return
        self.losses.append(logs["loss"])
        losses = smoothed(self.losses)
        if losses[-1] > _DIVERGED * min(losses):
            control.should_training_stop = True


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the exponential moving average of losses, without the bias of its start."""
    mean, values = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        values.append(mean / (1 - _SMOOTHING**number))
    return values


def suggestion(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the learning rate at which the loss falls fastest per decade, before its lowest value.

    Raises:
        ValueError: the loss does not fall.
    """
    lowest = int(np.argmin(losses))
    window = max(len(losses) // 8, 3)  # in which a line is fitted, since single steps are noisy
    if lowest < window:
        raise ValueError("the loss falls at no learning rate from 1e-6 to 1: look at the data and the model first")
    parts = np.lib.stride_tricks.sliding_window_view(np.asarray(losses[: lowest + 1]), window)
    slopes = parts @ (np.arange(window) - (window - 1) / 2)  # rates are evenly spaced by their logarithms
    return float(rates[int(np.argmin(slopes)) + window // 2])


def peak_memory() -> int:
    """Return the most memory that was used so far, in bytes: of the GPU, or of this process where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
