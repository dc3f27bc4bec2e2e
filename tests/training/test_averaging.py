"""The EMA of the weights keeps what did not change, and copies what has no mean."""

import copy
from itertools import chain

import pytest
import torch
import yaml
from torch import nn

from hf_vits.optim.averaging import WeightAverage

from ..support.hub import TINY, tiny_model
from ..support.paths import RECIPES

DECAYS = sorted(
    {
        recipe["train"]["ema_decay"]
        for recipe in (yaml.safe_load(path.read_text(encoding="utf-8")) for path in RECIPES.glob("*.yaml"))
        if recipe.get("train", {}).get("ema_decay") is not None
    }
    | {0.9, 0.999, 0.9995}
)


def tensors(model):
    return list(chain(model.parameters(), model.buffers()))


def after_steps(model, decay, steps=3):
    average, result = WeightAverage(model, decay), copy.deepcopy(model)
    for _ in range(steps):
        average.on_step_end(None, None, None, model=model)
    average.copy_to(result)
    return result


@pytest.mark.parametrize("name", TINY)
def test_the_average_of_a_model_that_did_not_change_equals_it(name):
    model = tiny_model(name)
    for decay in DECAYS:
        assert all(map(torch.equal, tensors(after_steps(model, decay)), tensors(model))), decay


def test_the_recipes_have_decays_to_test():
    assert {0.9999, 0.99996} <= set(DECAYS)


def test_integers_are_copied_statistics_averaged_and_infinite_masks_kept():
    model = nn.BatchNorm1d(2)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    average, result = WeightAverage(model, decay=0.75), copy.deepcopy(model)
    model.running_mean.fill_(4.0)
    model.num_batches_tracked.fill_(7)
    average.on_step_end(None, None, None, model=model)
    average.copy_to(result)
    assert result.running_mean.tolist() == [1.0, 1.0]
    assert result.num_batches_tracked.item() == 7
    assert result.mask.tolist() == [0.0, -torch.inf]
