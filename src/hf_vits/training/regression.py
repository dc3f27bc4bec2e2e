"""Numbers in place of classes: standardised in training, and in the units of the data in the saved model.

A model that learned standardised targets is scaled at the end: its last linear layers then give the units of the data,
so that whatever loads the model predicts these.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig

from hf_vits.data.splits import Splits
from hf_vits.hub.pull import pull
from hf_vits.objectives import StandardizedSquaredError
from hf_vits.recipe import Recipe

from .building.fitting import class_names
from .loop.trainer import RecipeTrainer


def standardize(trainer: RecipeTrainer, splits: Splits) -> None:
    """Let a trainer standardise the targets by mean and standard deviation of the training split.

    A target that is constant in training is only shifted.

    Raises:
        ValueError: the model does not end in linear layers that can be scaled.
    """
    targets = splits.train.labels.astype(np.float64)
    mean, std = targets.mean(axis=0), targets.std(axis=0)
    objective: Any = StandardizedSquaredError(torch.from_numpy(mean), torch.from_numpy(np.where(std > 0, std, 1.0)))
    trainer.objective = objective
    models = [trainer.model, *([trainer.average.model] if trainer.average else [])]
    kept = keeps_head(trainer.recipe, trainer.model)
    for model in models:
        layers = last_layers(model)
        if kept:  # its predictions are in the units of the data
            scale_layers(layers, -objective.mean / objective.std, 1 / objective.std)


def keeps_head(recipe: Recipe, model: Any) -> bool:
    """Return whether the pretrained model of a recipe already predicts the recipe's targets."""
    if recipe.model.pretrained is None or recipe.model.probe is not None:
        return False
    before = pull(AutoConfig, recipe.model.pretrained)
    names = [sorted(class_names(config.id2label)) for config in (before, model.config)]
    return before.problem_type == "regression" and names[0] == names[1]


def finish(trainer: RecipeTrainer) -> None:
    """Scale the trained model to the units of the data; the objective then compares these."""
    objective: Any = trainer.objective
    if objective.std.ndim:
        scale_layers(last_layers(trainer.model), objective.mean, objective.std)
        trainer.objective = StandardizedSquaredError()


def last_layers(model: Any) -> list[Any]:
    """Return the linear layers from which the outputs of a model are; ValueError where there is none."""
    base = f"{model.base_model_prefix}."
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
        and not name.startswith(base)
        and len(module.weight) == model.config.num_labels
        and module.bias is not None
    ]
    if not found or getattr(model, "label_weights", ()):
        raise ValueError(
            f"objective.standardize: a {type(model).__name__} does not end in a linear layer, whose weights could be "
            "scaled to the units of the data: set it to false, and scale the numbers in the data"
        )
    return found


@torch.no_grad()
def scale_layers(layers: list[Any], shift: Tensor, factor: Tensor) -> None:
    """Let the outputs of linear layers be what they were times `factor` plus `shift`, each (targets,)."""
    for layer in layers:
        weight, bias = layer.weight, layer.bias
        weight.mul_(factor.to(weight).view(-1, *[1] * (weight.ndim - 1)))
        bias.mul_(factor.to(bias)).add_(shift.to(bias))
