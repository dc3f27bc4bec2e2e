"""Early exits: thresholds for a budget, found on a calibration set, and what they do to other images.

Wang et al., "Not All Images are Worth 16x16 Words", arXiv 2105.15075, section 3.2; the original's inference.py. The
confidence of an exit is the largest softmax probability. An image leaves at the first exit whose confidence reaches
the exit's threshold.
"""

import math
from typing import NamedTuple

import torch

# Numbers that no confidence reaches, and that every confidence reaches.
CLOSED, OPEN = 1e8, -1e8
# Of the sweep over budgets: p of `exit_fractions`.
RATES = tuple(step / 20 for step in range(1, 60))


def confidence(logits: torch.Tensor) -> torch.Tensor:
    """Return the largest softmax probability (...) of logits (..., classes), in single precision."""
    return logits.float().softmax(dim=-1).amax(dim=-1)


def exit_fractions(rate: float, num_exits: int) -> torch.Tensor:
    """Return the fraction of images (num_exits,) that is to leave at each exit, in proportion to rate^k at exit k.

    A rate below 1 prefers early exits, above 1 late ones.
    """
    powers = torch.exp(torch.log(torch.tensor(float(rate))) * torch.arange(1.0, num_exits + 1))
    return powers / powers.sum()


def find_thresholds(confidences: torch.Tensor, fractions: torch.Tensor) -> torch.Tensor:
    """Find the thresholds with which given fractions of a calibration set leave at each exit.

    Each exit but the last takes floor(images * fraction) images, those with the highest confidence among the images
    that have not left before. Its threshold is the lowest confidence among them; where fewer images are left or none
    is wanted, the exit is closed.

    Args:
        confidences: (exits, images).
        fractions: (exits,).

    Returns:
        thresholds: (exits,); `CLOSED` for a closed exit, `OPEN` for the last.
    """
    num_exits, num_images = confidences.shape
    thresholds = torch.full((num_exits,), CLOSED)
    has_left = torch.zeros(num_images, dtype=torch.bool)
    for index in range(num_exits - 1):
        remaining = confidences[index][~has_left].sort(descending=True).values
        wanted = math.floor(num_images * fractions[index])
        if 0 < wanted <= len(remaining):
            thresholds[index] = remaining[wanted - 1]
        has_left |= confidences[index] >= thresholds[index]
    thresholds[-1] = OPEN
    return thresholds


def choose_exits(confidences: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """Return the index (images,) of the exit at which each image leaves; the last takes all that are left.

    Args:
        confidences: (exits, images).
        thresholds: (exits,) or (exits - 1,).
    """
    last = len(confidences) - 1
    leaves = confidences[:last] >= thresholds[:last, None].to(confidences)
    leaves = torch.cat([leaves, torch.ones_like(leaves[:1])])
    return leaves.int().argmax(dim=0)


class Outcome(NamedTuple):
    """What thresholds do to labelled images.

    Attributes:
        thresholds: (exits,).
        exits: (images,), index of the exit at which each image leaves.
        accuracy: fraction of images whose class at their exit is right.
        cost: mean cost of an image, in the unit of the given costs.
    """

    thresholds: torch.Tensor
    exits: torch.Tensor
    accuracy: float
    cost: float


def outcome(confidences: torch.Tensor, right: torch.Tensor, costs: torch.Tensor, thresholds: torch.Tensor) -> Outcome:
    """Measure thresholds on labelled images.

    Args:
        confidences: (exits, images).
        right: boolean (exits, images), whether each exit's class is right.
        costs: (exits,), of leaving at each exit, such as multiply-adds.
        thresholds: (exits,) or (exits - 1,).
    """
    exits = choose_exits(confidences, thresholds)
    accuracy = right.gather(0, exits[None]).double().mean().item()
    fractions = exits.bincount(minlength=len(costs)).float() / max(len(exits), 1)
    return Outcome(thresholds, exits, accuracy, (fractions * costs).sum().item())


def thresholds_for_budget(confidences: torch.Tensor, costs: torch.Tensor, budget: float) -> torch.Tensor:
    """Find the thresholds (exits,) of the sweep with the highest mean cost on a calibration set within a budget.

    Args:
        confidences: (exits, images) of the calibration set.
        costs: (exits,), of leaving at each exit.
        budget: highest mean cost of an image, in the unit of `costs`.

    Raises:
        ValueError: even the thresholds of the lowest cost exceed the budget.
    """
    right = torch.ones_like(confidences, dtype=torch.bool)
    swept = [find_thresholds(confidences, exit_fractions(rate, len(costs))) for rate in RATES]
    found = [outcome(confidences, right, costs, thresholds) for thresholds in swept]
    if within := [result for result in found if result.cost <= budget]:
        return max(within, key=lambda result: result.cost).thresholds
    raise ValueError(
        f"a budget of {budget:.4g} cannot be kept: thresholds reach mean costs from "
        f"{min(result.cost for result in found):.4g} to {max(result.cost for result in found):.4g}"
    )
