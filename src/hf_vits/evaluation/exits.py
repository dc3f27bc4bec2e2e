"""A classifier with early exits (DVT) measured: accuracy and cost of each exit, and of budgets between them."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from hf_vits.configuration import pair
from hf_vits.models.dvt.exits_dvt import (
    RATES,
    Outcome,
    confidence,
    exit_fractions,
    find_thresholds,
    outcome,
    thresholds_for_budget,
)

from .features import evaluating


@dataclass(frozen=True)
class ExitScores:
    """What each exit says of labelled images.

    Attributes:
        confidences: (exits, images), largest softmax probability.
        right: boolean (exits, images), whether the class is right.
    """

    confidences: torch.Tensor
    right: torch.Tensor


def check_exits(model: PreTrainedModel, source: str) -> None:
    """Raise ValueError unless a model is a classifier with early exits."""
    if not hasattr(model, "adaptive"):
        raise ValueError(f"{source} is a {type(model).__name__}, which has no early exits; expected a DVT classifier")


def counted(model: Any) -> tuple[Any, torch.Tensor]:
    """Return a copy of an image model on the meta device, whose operations can be counted, and an image for it."""
    config = deepcopy(model.config)
    with torch.device("meta"), no_init_weights():
        # The counter sees the products of eager attention, and fails at parameters that require gradients.
        copy = type(model)(config).eval().to("meta").requires_grad_(False)
    copy.set_attn_implementation("eager")
    return copy, torch.empty(1, config.num_channels, *pair(config.image_size), device="meta")


@torch.no_grad()
def exit_costs(model: Any) -> torch.Tensor:
    """Count the multiply-adds (exits,) of one image that leaves at each exit of a DVT classifier."""
    model, image = counted(model)
    costs: list[float] = []
    state = None
    for index, network in enumerate(model.model.networks):
        with FlopCounterMode(display=False) as counter:
            state = model.model.run(index, image, state)
            model.classify_exit(network.pool(state), index)
        costs.append(counter.get_total_flops() / 2 + (costs[-1] if costs else 0))
    return torch.tensor(costs)


@torch.no_grad()
def static_cost(model: Any) -> float:
    """Count the multiply-adds of one image in an image classifier."""
    model, image = counted(model)
    with FlopCounterMode(display=False) as counter:
        model(image, output_hidden_states=True)
    return counter.get_total_flops() / 2


@torch.no_grad()
def exit_scores(model: Any, loader: DataLoader, labels: torch.Tensor) -> ExitScores:
    """Run all exits on the batches of pixel_values of a loader, in its order.

    Args:
        labels: class indices (images,).
    """
    confidences, classes = [], []
    with evaluating(model):
        for batch in loader:
            pixel_values = batch["pixel_values"].to(model.device, model.dtype)
            logits = model.classify_all(pixel_values).float().cpu().transpose(0, 1)
            confidences.append(confidence(logits))
            classes.append(logits.argmax(dim=-1))
    return ExitScores(torch.cat(confidences, dim=1), torch.cat(classes, dim=1) == labels)


def sweep(calibration: ExitScores, measured: ExitScores, costs: torch.Tensor) -> list[Outcome]:
    """Measure the thresholds of 59 budgets, found on a calibration set, on other images; the cheapest budget first.

    The original's inference.py does this. `costs` (exits,) are of leaving at each exit.
    """
    swept = [find_thresholds(calibration.confidences, exit_fractions(rate, len(costs))) for rate in RATES]
    return [outcome(measured.confidences, measured.right, costs, thresholds) for thresholds in swept]


def calibrate(model: Any, calibration: ExitScores, budget: float) -> torch.Tensor:
    """Set `config.exit_thresholds` for a mean of at most `budget` multiply-adds per image; return the thresholds.

    Raises ValueError where the budget is below the cost that thresholds can reach.
    """
    thresholds = thresholds_for_budget(calibration.confidences, exit_costs(model), budget)
    model.config.exit_thresholds = thresholds.tolist()
    return thresholds
