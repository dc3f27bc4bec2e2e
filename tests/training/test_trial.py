"""Checks of recipes and the search for a learning rate, without a run."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_vits.figures.examples import draw_examples
from hf_vits.training.trial import check, find_learning_rate, smoothed, suggestion

from ..support.training import tiny_recipe


def test_a_check_draws_examples_and_measures_steps(tmp_path):
    found = check(tiny_recipe(tmp_path, train__length="40 steps"))
    assert found["steps"] == 40
    assert found["classes"] == 10
    assert found["train_images"] > 1000
    assert found["hours"] == pytest.approx(40 * found["seconds_per_step"] / 3600)
    assert 0.05 < found["peak_memory_gb"] < 100
    with Image.open(found["examples"]) as image:
        assert np.asarray(image).std() > 20
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["examples.png"]


def test_a_learning_rate_is_suggested(tmp_path):
    found = find_learning_rate(tiny_recipe(tmp_path, augmentation={}), steps=40)
    assert 1e-5 < found["learning_rate"] < found["lowest_loss_at"] <= 1
    assert (tmp_path / "learning_rates.png").is_file()


def test_the_rate_of_the_steepest_fall():
    rates = np.geomspace(1e-6, 1, 61)
    losses = 2 - 1 / (1 + (1e-3 / rates) ** 2) + (rates > 0.1) * 5
    assert 2e-4 < suggestion(list(rates), list(losses)) < 3e-3
    with pytest.raises(ValueError, match="falls at no learning rate"):
        suggestion(list(rates), list(1 + rates))
    assert smoothed([1.0, 1.0, 1.0]) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("name", "shape"), [("input_features", (3, 40, 16)), ("input_values", (3, 800)), ("other", (2, 2))]
)
def test_pages_of_sounds(tmp_path, name, shape):
    page = tmp_path / "page.png"
    drawn = draw_examples({name: torch.randn(shape)}, None, page)
    assert drawn == (None if name == "other" else name)
    assert page.is_file() == (drawn is not None)
