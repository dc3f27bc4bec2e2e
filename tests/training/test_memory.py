"""The memory of a run that is counted, beside what is really allocated."""

import copy

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from hf_vits.cli import main
from hf_vits.optim.optimizers import build_optimizer
from hf_vits.recipe import load_recipe
from hf_vits.training.memory import count_memory, empty_model
from hf_vits.training.tasks import load

from ..support.training import tiny_recipe

BATCH = 8


def recipe(tmp_path, **changes):
    model = {"system": "deit", "variant": "deit_tiny_patch16_224"}
    model["config"] = {"image_size": 64, "num_hidden_layers": 3, "hidden_size": 96}
    return tiny_recipe(tmp_path, model=model, train__batch_size=BATCH, **changes)


@pytest.fixture
def model(tmp_path):
    """The model of the recipe with real weights."""
    settings = load_recipe(recipe(tmp_path))
    return empty_model(settings, load(settings.task)).to_empty(device="cpu").train()


def kept_by_forward(model, precision: str) -> int:
    """Return the bytes that a real forward pass allocates and does not free."""
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler, autocast:
        output = model(torch.zeros(BATCH, 3, 64, 64))
    assert output.logits.requires_grad
    return sum(event.self_cpu_memory_usage for event in profiler.events())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_counted_activations_are_what_a_forward_pass_keeps(tmp_path, model, precision):
    counted = {row["precision"]: row["activations"] for row in count_memory(recipe(tmp_path))["rows"][::2]}
    assert counted[precision] == pytest.approx(kept_by_forward(model, precision), rel=0.03)


def test_counted_weights_and_optimizer_state_are_real(tmp_path, model):
    counted = count_memory(recipe(tmp_path), processes=2)
    assert counted["batch"] == BATCH // 2
    assert counted["weights"] == counted["gradients"] == counted["average"] == 4 * model.num_parameters()
    settings = load_recipe(recipe(tmp_path)).optimizer
    optimizer = build_optimizer(copy.deepcopy(model), settings)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    states = (tensor for state in optimizer.state.values() for tensor in state.values())
    assert counted["optimizer"] == sum(tensor.nbytes for tensor in states)
    whole, checkpointed, *_ = counted["rows"]
    assert checkpointed["activations"] < 0.6 * whole["activations"]
    assert whole["sharded"] < whole["total"]


def test_command_shows_the_memory_of_a_recipe(capsys):
    assert main(["info", "demo_digits", "--memory", "--set", "train.batch_size=32"]) == 0
    assert "checkpointing" in capsys.readouterr().out
    assert main(["info", "demo_digits", "--memory", "--devices", "3"]) == 2
    assert "batch_size 64 cannot be divided equally among 3 devices" in capsys.readouterr().err
    assert main(["info", "fashion_mnist_mae", "--memory"]) == 2
    assert "the task of this recipe is pretraining" in capsys.readouterr().err
