"""The benchmark of memory over the number of inputs: its steps have gradients, and its results are drawn."""

import pytest
from PIL import Image

from benchmarks import inputs_memory


@pytest.mark.parametrize("name", ["perceiver", "full"])
def test_a_step_is_a_forward_and_a_backward_pass(name):
    step = inputs_memory.STEPS[name](16)
    step()
    step()


def test_the_results_are_drawn(tmp_path):
    inputs_memory.draw(tmp_path / "memory.png")
    with Image.open(tmp_path / "memory.png") as image:
        assert image.width > 500
