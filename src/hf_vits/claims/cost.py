"""What a recipe's model costs: seconds of computing for an input, in evaluation and in training, and parameters."""

import time
from collections.abc import Callable
from typing import Any

import torch

from hf_vits.recipe import load_recipe
from hf_vits.training.run import build

# Calls of which the fastest counts, so that other work on the machine shows little: at least so many, and so long.
_CALLS, _SECONDS = 10, 2.0


def measure_cost(values: dict[str, Any]) -> dict[str, float]:
    """Return the cost of a recipe's model on its data.

    Returns:
        cost.forward_seconds, of a forward pass in evaluation; cost.step_seconds, of forward and backward pass in
        training, both of a training batch and for one input; and cost.parameters. On the CPU seconds are those of
        computing, over all threads.
    """
    trainer = build(load_recipe(values)).trainer
    model: Any = trainer.model
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))

    def forward() -> None:
        with torch.no_grad():
            trainer.compute_loss(model, batch)

    def step() -> None:
        model.zero_grad()
        loss: Any = trainer.compute_loss(model, batch)
        loss.backward()

    inputs = trainer.recipe.train.batch_size
    model.eval()
    seconds = fastest(forward) / inputs
    model.train()
    return {
        "cost.forward_seconds": seconds,
        "cost.step_seconds": fastest(step) / inputs,
        "cost.parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def fastest(function: Callable[[], None]) -> float:
    """Return the seconds of the fastest of some calls, after one to warm up."""
    clock, wait = time.process_time, lambda: None
    if torch.cuda.is_available():
        clock, wait = time.perf_counter, torch.cuda.synchronize
    function()
    taken: list[float] = []
    while len(taken) < _CALLS or sum(taken) < _SECONDS:
        wait()
        before = clock()
        function()
        wait()
        taken.append(clock() - before)
    return min(taken)
