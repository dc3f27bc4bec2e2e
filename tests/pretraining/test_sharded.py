"""Methods without labels compute the same with sharded students, teachers and heads."""

import copy

import pytest
import torch
from torch.distributed.tensor import DTensor

from hf_vits.optim.sharding import shard, sharded_units

from ..support.batches import batch, kinds

# {name: kind} of the methods, each with its first form.
METHODS = {kind.name: kind for kind in reversed([kind for kind in kinds() if kind.inputs])}


@pytest.mark.parametrize("name", METHODS)
def test_a_sharded_method_computes_what_a_whole_one_does(name, mesh):
    torch.manual_seed(0)
    kind = METHODS[name]
    config = kind.model_class.config_class(**copy.deepcopy(kind.fields))
    model, inputs = kind.model_class(config).eval(), batch(kind, config, 4)
    whole = copy.deepcopy(model)
    assert len(sharded_units(model)) > 1
    shard(model, mesh)
    losses = []
    for either in (whole, model):
        torch.manual_seed(1)
        losses.append(either(**inputs).loss)
        losses[-1].backward()
        if getattr(either, "teacher", None) is not None and hasattr(either, "update_teacher"):
            either.update_teacher(0.5)
    torch.testing.assert_close(losses[1], losses[0])
    expected = dict(whole.named_parameters())
    for key, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor)
        torch.testing.assert_close(parameter.full_tensor(), expected[key])
        if expected[key].grad is not None:
            torch.testing.assert_close(parameter.grad.full_tensor(), expected[key].grad, atol=1e-5, rtol=1e-3)
