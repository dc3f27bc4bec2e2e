"""Similarity of layers, probes, clusters and receptive fields where the result is known."""

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

from hf_vits.analysis import representation
from hf_vits.analysis.branches import norm_ratio, plot_norm_ratios
from hf_vits.analysis.taps import Addends, record
from hf_vits.metrics import load_metric


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8)), ResNetModel(resnet)


@pytest.fixture(scope="module")
def batches():
    return list(torch.randn(3, 6, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


def test_similarity_does_not_change_under_rotation_and_scale():
    generator = torch.Generator().manual_seed(0)
    features, others = torch.randn(2, 20, 8, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    for unbiased in (True, False):
        assert representation.cka(features, 3 * features @ rotation, unbiased) == pytest.approx(1)
        assert representation.cka(features, others, unbiased) < 0.9
    with pytest.raises(ValueError, match="four images or more, got 3"):
        representation.cka(features[:3], others[:3], unbiased=True)


def test_weightings_differ_only_for_batches_of_other_sizes():
    features, others = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def similarity(sizes, weighting):
        measured = representation.MinibatchCKA(weighting)
        for first, second in zip(features.split(sizes), others.split(sizes), strict=True):
            measured.update([first], [second])
        return measured.compute().item()

    assert similarity([10, 10], "batches") == pytest.approx(similarity([10, 10], "pairs"))
    assert abs(similarity([5, 15], "batches") - similarity([5, 15], "pairs")) > 1e-3


def test_layers_of_two_models_are_compared(models, batches):
    vit, resnet = models
    own = representation.compare_layers(vit, batches)
    torch.testing.assert_close(own.diagonal(), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(own, own.T)
    both = representation.compare_layers(vit, batches, resnet, tokens="patches")
    assert both.shape == (2, 2)
    assert representation.plot_similarity(both).axes[0].images[0].get_array().shape == (2, 2)


def test_probes_separate_what_is_separable():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    centres = 4 * torch.randn(3, 10, generator=generator)
    train, test = (centres[labels] + torch.randn(60, 10, generator=generator) for _ in range(2))
    noise = torch.randn(60, 10, generator=generator)
    for kind in ("ridge", "linear"):
        scores = representation.probe_layers([noise, train], labels, [noise.flip(0), test], labels, kind=kind)
        assert scores[1] == 1 > scores[0]
    (best,) = representation.best_layers({"model": scores})
    assert best == {"model": "model", "best_layer": 2, "num_layers": 2, "score": 1}
    assert representation.cluster_scores(train, 7 * labels, 3)["purity"] == 1


def test_the_dual_form_of_the_ridge_probe_gives_the_same_scores():
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(2, 12, 40, generator=generator)
    labels = torch.arange(12) % 3
    scores = representation.ridge_probe(train, labels, test)
    few = torch.cat([train[:, :5], torch.zeros(12, 35)], dim=1)  # the same 5 features, in either form
    many = representation.ridge_probe(few, labels, torch.cat([test[:, :5], torch.zeros(12, 35)], dim=1))
    torch.testing.assert_close(many, representation.ridge_probe(few[:, :5], labels, test[:, :5]))
    assert scores.shape == (12, 3)


def test_the_receptive_field_of_a_convolution_is_local(models, batches):
    vit, resnet = models
    field = representation.receptive_field(resnet, batches[0][:1], layers=[0])[0]
    assert 0 < (field > 0).float().mean() < 0.9
    everywhere = representation.receptive_field(vit, batches[0][:1], layers=[1])[0]
    assert (everywhere > 0).all()


def test_norm_ratios_of_both_definitions():
    skip = torch.tensor([[[3.0, 4.0], [0.0, 6.0]]])
    addends = Addends(skip, torch.ones(1, 2, 2))
    torch.testing.assert_close(norm_ratio(addends), torch.tensor([[5.0, 6.0]]) / 2**0.5)
    torch.testing.assert_close(norm_ratio(addends, "frobenius"), torch.tensor([61.0]).sqrt() / 2)
    torch.testing.assert_close(norm_ratio(addends, tokens="class"), torch.tensor([[5.0]]) / 2**0.5)
    with pytest.raises(ValueError, match="got 'some'"):
        norm_ratio(addends, tokens="some")


def test_norm_ratios_of_a_model_are_drawn(models, batches):
    seen = record(models[0], batches[0], ["attention_branches", "mlp_branches"])
    lines = {
        name: torch.stack([norm_ratio(addends).mean() for addends in branches])
        for name, branches in (("attention", seen.attention_branches), ("MLP", seen.mlp_branches))
    }
    assert len(plot_norm_ratios(lines).axes[0].lines) == 3


def test_the_clustering_metric():
    scores = load_metric("clustering").compute(predictions=[0, 0, 1, 1, 1], references=[4, 4, 9, 9, 4])
    assert scores["purity"] == pytest.approx(0.8)
    assert not np.isnan(list(scores.values())).any()
