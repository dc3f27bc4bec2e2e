"""Losses of continual learning, beside what they must do by their definition."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hf_vits.objectives import (
    ContinualCrossEntropy,
    ElasticWeightConsolidation,
    JensenShannonRegularization,
    LwfDistillation,
    MapRegularization,
    PathIntegral,
)
from hf_vits.objectives.continual import POOLINGS, fisher_information, sampled_classes


def maps(seed: int, layers: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 2, 4, 5, generator=generator) for _ in range(layers)]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("options", [{"symmetric": True}, {}, {"after_norm": False}])
def test_maps_that_did_not_change_cost_nothing(pooling, options):
    old = maps(0)
    assert MapRegularization(pooling, **options)(old, [x.clone() for x in old])[0] == 0


def test_the_asymmetric_form_counts_what_was_lost_alone():
    """With pixel pooling, one head that falls to nothing is a loss; one that rises is none."""
    old = [torch.ones(1, 2, 1, 1)]
    lost, gained = ([torch.tensor([1.0, other]).view(1, 2, 1, 1)] for other in (0.0, 3.0))
    loss, reverse = MapRegularization("pixel"), MapRegularization("pixel", reverse=True)
    root = 0.5**0.5
    # The other head's part rises to 1 or 3 / sqrt(10), so each form sees one of the two heads.
    assert loss(lost, old)[0] == pytest.approx(root / 2)
    assert reverse(lost, old)[0] == pytest.approx((1 - root) / 2)
    assert loss(gained, old)[0] == pytest.approx((root - 10**-0.5) / 2)


def test_the_original_default_has_no_gradient():
    new = [x.requires_grad_() for x in maps(1)]
    MapRegularization("spatial", after_norm=False)(new, maps(0))[0].backward()
    assert all(x.grad.abs().max() < 1e-6 for x in new)
    working = [x.requires_grad_() for x in maps(1)]
    MapRegularization("spatial")(working, maps(0))[0].backward()
    assert all(x.grad.abs().max() > 1e-4 for x in working)


def test_layers_and_shapes_must_fit():
    with pytest.raises(ValueError, match="same layers, got 1 and 2"):
        MapRegularization()(maps(0, 1), maps(0))
    with pytest.raises(ValueError, match="must have one shape"):
        MapRegularization()(maps(0), [x[..., :2] for x in maps(0)])
    with pytest.raises(ValueError, match="pooling must be one of spatial"):
        MapRegularization("rows")
    with pytest.raises(ValueError, match="the same layers"):
        JensenShannonRegularization()([], [])


def test_distillation_at_temperature_is_cross_entropy_of_divided_logits():
    torch.manual_seed(0)
    new, old = torch.randn(6, 4), torch.randn(6, 4)
    expected = F.cross_entropy(new / 3, (old / 3).softmax(dim=1))
    assert LwfDistillation(3.0)(new, old)[0].item() == pytest.approx(expected.item(), abs=1e-4)
    with pytest.raises(ValueError, match="same classes"):
        LwfDistillation()(new, old[:, :3])
    with pytest.raises(ValueError, match="temperature must be positive"):
        LwfDistillation(0)


def test_the_cross_entropy_of_a_task_sees_its_head_alone():
    logits, labels = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 3, 3, 2, 2])
    own = ContinualCrossEntropy(2, 4)(logits, labels)[0]
    torch.testing.assert_close(own, F.cross_entropy(logits[:, 2:4], labels - 2))
    everything = ContinualCrossEntropy(2, 4, all_heads=True)(logits, labels)[0]
    torch.testing.assert_close(everything, F.cross_entropy(logits[:, :4], labels))


def parameters(value: float) -> dict[str, nn.Parameter]:
    return {"layer.weight": nn.Parameter(torch.full((2,), value))}


def test_important_parameters_are_held_back():
    penalty = ElasticWeightConsolidation(parameters(1.0), weight=10.0, alpha=0.5)
    assert penalty(parameters(3.0))[0] == 0  # nothing is important yet
    fisher = fisher_information([({"layer.weight": torch.tensor([2.0, 0.0])}, 3)], 3)
    penalty.merge(fisher)
    # 10 / 2 * (0.5 * 2^2) * (3 - 1)^2, of the first entry alone
    assert penalty(parameters(3.0))[0].item() == pytest.approx(40.0)
    penalty.keep(parameters(3.0))
    assert penalty(parameters(3.0))[0] == 0
    loaded = ElasticWeightConsolidation(parameters(0.0), weight=10.0)
    loaded.load_state_dict(penalty.state_dict())
    torch.testing.assert_close(loaded(parameters(1.0))[0], penalty(parameters(1.0))[0])
    with pytest.raises(ValueError, match="seen_fraction"):
        ElasticWeightConsolidation(parameters(1.0), alpha=None).merge(fisher)


def test_classes_of_the_fisher_information():
    logits, labels = torch.tensor([[0.0, 9.0], [9.0, 0.0]]), torch.tensor([0, 0])
    assert sampled_classes(logits, labels, "true").tolist() == [0, 0]
    assert sampled_classes(logits, labels).tolist() == [1, 0]
    torch.manual_seed(0)
    assert sampled_classes(logits * 9, labels, "multinomial").tolist() == [1, 0]
    with pytest.raises(ValueError, match="sampling must be"):
        sampled_classes(logits, labels, "best")


def test_the_path_integral_is_what_a_parameter_lowered_the_loss():
    penalty = PathIntegral(parameters(0.0), weight=1.0, damping=1.0)
    gradients = {"layer.weight": torch.tensor([-2.0, 0.0])}
    penalty.accumulate(gradients, parameters(0.0), parameters(0.5))
    assert penalty.held("path")["layer.weight"].tolist() == [1.0, 0.0]
    penalty.finish_task(parameters(1.0))
    assert penalty.held("importance")["layer.weight"].tolist() == [0.5, 0.0]  # 1 / (1^2 + 1)
    assert penalty.held("path")["layer.weight"].tolist() == [0.0, 0.0]
    assert penalty(parameters(3.0))[0].item() == pytest.approx(0.5 * 4)
