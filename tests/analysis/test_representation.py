"""Similarity of representations, probes and receptive fields by their definitions."""

import numpy as np
import pytest
import torch

from hf_vits.analysis import representation as measures


def test_cka_sees_through_rotations_and_scales():
    torch.manual_seed(0)
    features = torch.randn(20, 6)
    turned = 3 * features @ torch.linalg.qr(torch.randn(6, 6)).Q
    for unbiased in (False, True):
        assert measures.cka(features, turned, unbiased).item() == pytest.approx(1, abs=1e-5)
    other = torch.randn(20, 6)
    assert measures.cka(features, other).item() > measures.cka(features, other, unbiased=True).item()


def test_batches_of_the_whole_and_of_parts():
    torch.manual_seed(0)
    first, second = [torch.randn(24, 5)], [torch.randn(24, 3), torch.randn(24, 4)]
    whole = measures.compare_layers([(first, second)])
    expected = torch.stack([measures.cka(first[0], x, unbiased=True) for x in second])[None]
    torch.testing.assert_close(whole, expected)
    parts = [([first[0][part]], [x[part] for x in second]) for part in torch.arange(24).split(8)]
    equal, pairs = measures.compare_layers(parts), measures.compare_layers(parts, "pairs")
    torch.testing.assert_close(equal, pairs)
    assert measures.compare_layers([(first, None)]).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 4 examples, got 3"):
        measures.MinibatchCKA().add([torch.randn(3, 2)])
    with pytest.raises(ValueError, match="weighting must be one of"):
        measures.MinibatchCKA("mean")
    with pytest.raises(ValueError, match="no batch was added"):
        measures.MinibatchCKA().result()


@pytest.mark.parametrize("channels", [3, 90])
def test_probes_separate_what_is_separable(channels):
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.nn.functional.one_hot(labels, channels) * 4.0 + torch.randn(60, channels) * 0.1
    probe = measures.RidgeProbe(l2=1.0).fit(features, labels, 3)
    assert probe.accuracy(features, labels) == 1
    shuffled = measures.RidgeProbe(l2=1e6).fit(features, labels, 3)
    assert shuffled.weight[:-1].abs().max() < probe.weight[:-1].abs().max()


def test_the_receptive_field_is_what_a_unit_reads():
    def forward(pixels):
        return torch.stack([pixels[:, 0, 2, 3] * 2, -pixels[:, 0, 2, 3] * 2], dim=1)

    images = torch.rand(4, 1, 5, 5)
    field = measures.receptive_field(forward, images)
    assert field[2, 3] == pytest.approx(2 / 1)
    assert field.sum() == field[2, 3]
    assert measures.receptive_field(forward, images, of_sum=True).abs().max() == 0  # the two channels cancel


def test_clusters_and_best_layers():
    labels = np.array([0, 0, 1, 1, 2, 2])
    perfect = measures.cluster_scores(labels, labels + 5)
    assert perfect == pytest.approx((1, 1, 1))
    assert measures.cluster_scores(labels, np.zeros(6)).purity == pytest.approx(1 / 3)
    found = measures.best_layers({"vit": {"knn": [0.1, 0.3, 0.2]}})
    assert found == {"vit": {"knn": 2}}


def test_norms_of_residual_sums():
    skip, branch = torch.ones(2, 5, 4) * 3, torch.ones(2, 5, 4)
    ratios = measures.norm_ratios(skip, branch)
    assert {name: value.tolist() for name, value in ratios.items()} == {
        "all": [3, 3],
        "class": [3, 3],
        "patches": [3, 3],
    }
    assert measures.token_norm_ratios(skip, branch).tolist() == [[3] * 5] * 2
