"""Losses of continual learning, beside what they must do by their definition."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hf_vits.objectives import (
    ElasticWeightConsolidation,
    IncrementalCriterion,
    JensenShannonLoss,
    PathIntegral,
    PooledDistillationLoss,
)
from hf_vits.objectives.continual import POOLINGS, add_fisher, distill_logits, fisher_labels


def maps(seed: int, layers: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 2, 4, 5, generator=generator) for _ in range(layers)]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("options", [{"symmetric": True}, {}, {"after_norm": False}])
def test_maps_that_did_not_change_cost_nothing(pooling, options):
    assert PooledDistillationLoss(pooling, **options)(maps(0), maps(0))[0] == 0


def test_the_asymmetric_form_counts_what_was_lost_alone():
    """With pixel pooling, one head that falls to nothing is a loss; one that rises is none."""
    old = [torch.ones(1, 2, 1, 1)]
    lost, gained = ([torch.tensor([1.0, other]).view(1, 2, 1, 1)] for other in (0.0, 3.0))
    loss, reverse = PooledDistillationLoss("pixel"), PooledDistillationLoss("pixel", reverse=True)
    root = 0.5**0.5
    # The other head's part rises to 1 or falls to 1 / sqrt(10), so each form sees one of the two heads.
    assert loss(old, lost)[0].item() == pytest.approx(root / 2)
    assert reverse(old, lost)[0].item() == pytest.approx((1 - root) / 2)
    assert loss(old, gained)[0].item() == pytest.approx((root - 10**-0.5) / 2)


def test_pooled_scores_are_those_of_the_whole_maps():
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4)
    for pooling in POOLINGS:
        for symmetric in (False, True):
            loss = PooledDistillationLoss(pooling, symmetric=symmetric)
            torch.testing.assert_close(loss.pool_scores(query, key, 0.5), loss.pool(0.5 * query @ key.mT))


def test_the_original_default_has_no_gradient():
    new = [x.requires_grad_() for x in maps(1)]
    PooledDistillationLoss("spatial", after_norm=False)(maps(0), new)[0].backward()
    assert all(x.grad.abs().max() < 1e-6 for x in new)
    working = [x.requires_grad_() for x in maps(1)]
    PooledDistillationLoss("spatial")(maps(0), working)[0].backward()
    assert all(x.grad.abs().max() > 1e-4 for x in working)


def test_layers_and_shapes_must_fit():
    for new in (maps(0, 1), [x[..., :2] for x in maps(0)], []):
        with pytest.raises(ValueError, match="maps of the same shapes"):
            PooledDistillationLoss()(maps(0), new)
    with pytest.raises(ValueError, match="pooling must be one of spatial"):
        PooledDistillationLoss("rows")


def test_attention_that_did_not_change_diverges_from_nothing():
    one, other = JensenShannonLoss()(maps(0), maps(0))[0], JensenShannonLoss()(maps(0), maps(1))[0]
    assert abs(one) < 1e-4
    assert other > 0.01


def test_distillation_at_temperature_is_cross_entropy_of_divided_logits():
    torch.manual_seed(0)
    new, old = torch.randn(6, 4), torch.randn(6, 4)
    expected = F.cross_entropy(new / 3, (old / 3).softmax(dim=1))
    assert distill_logits(new, old, 3.0).item() == pytest.approx(expected.item(), abs=1e-4)


def test_the_criterion_of_a_task_sees_its_head_alone():
    generator = torch.Generator().manual_seed(0)
    logits, old, labels = torch.randn(5, 6, generator=generator), torch.zeros(5, 6), torch.tensor([2, 3, 3, 2, 2])
    criterion = IncrementalCriterion([2, 2, 2])
    torch.testing.assert_close(criterion(logits, labels, 1)[0], F.cross_entropy(logits[:, 2:4], labels - 2))
    torch.testing.assert_close(criterion(logits, labels, 1, all_heads=True)[0], F.cross_entropy(logits[:, :4], labels))
    distilled = IncrementalCriterion([2, 2, 2], distillation=0.5)(logits, labels, 1, old)[0]
    expected = criterion(logits, labels, 1)[0] + 0.5 * distill_logits(logits[:, :2], old[:, :2])
    torch.testing.assert_close(distilled, expected)
    with pytest.raises(ValueError, match="pass old_logits"):
        IncrementalCriterion([2, 2], distillation=1.0)(logits, labels, 1)


def parameters(value: float) -> dict[str, nn.Parameter]:
    return {"layer.weight": nn.Parameter(torch.full((2,), value))}


def test_important_parameters_are_held_back():
    penalty = ElasticWeightConsolidation(weight=10.0, alpha=0.5)
    with pytest.raises(ValueError, match="before the end of the first task"):
        penalty(parameters(3.0))
    fisher = {}
    add_fisher(fisher, {"layer.weight": torch.tensor([2.0, 0.0])}, batch_size=3, num_samples=3)
    penalty.consolidate(parameters(1.0), fisher)
    # 10 / 2 * (0.5 * 2^2) * (3 - 1)^2, of the first entry alone
    assert penalty(parameters(3.0))[0].item() == pytest.approx(40.0)
    penalty.keep(parameters(3.0))
    assert penalty(parameters(3.0))[0] == 0
    loaded = ElasticWeightConsolidation(weight=10.0)
    loaded.load_state_dict(penalty.state_dict())
    torch.testing.assert_close(loaded(parameters(1.0))[0], penalty(parameters(1.0))[0])


def test_classes_of_the_fisher_information():
    logits, labels = torch.tensor([[0.0, 9.0], [9.0, 0.0]]), torch.tensor([0, 0])
    assert fisher_labels(logits, labels, "true").tolist() == [0, 0]
    assert fisher_labels(logits, labels).tolist() == [1, 0]
    assert fisher_labels(logits * 9, labels, "multinomial").tolist() == [1, 0]
    with pytest.raises(ValueError, match="sampling must be"):
        fisher_labels(logits, labels, "best")


def test_the_path_integral_is_what_a_parameter_lowered_the_loss():
    penalty = PathIntegral(weight=1.0, damping=1.0)
    penalty.keep(parameters(0.0))
    gradients = {"layer.weight": torch.tensor([-2.0, 0.0])}
    penalty.accumulate(gradients, parameters(0.0), parameters(0.5))
    assert penalty.path["layer.weight"].tolist() == [1.0, 0.0]
    penalty.consolidate(parameters(1.0))
    assert penalty.importance["layer.weight"].tolist() == [0.5, 0.0]  # 1 / (1^2 + 1)
    assert penalty(parameters(3.0))[0].item() == pytest.approx(0.5 * 4)
