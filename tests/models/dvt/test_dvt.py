"""DVT: reuse of tokens and scores, early exits, thresholds, losses."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageClassification, pipeline

from hf_vits.models.dvt.configuration_dvt import DvtConfig
from hf_vits.models.dvt.exits_dvt import (
    CLOSED,
    OPEN,
    choose_exits,
    confidence,
    exit_fractions,
    find_thresholds,
    outcome,
    thresholds_for_budget,
)
from hf_vits.models.dvt.modeling_dvt import DvtForImageClassification
from hf_vits.models.dvt.reuse_dvt import enlarge, enlarge_scores

from ...support.hub import image, tiny_processor
from .forms import PATCHES, TINY

REUSE = [(True, True), (True, False), (False, True), (False, False)]


def model(**fields) -> DvtForImageClassification:
    torch.manual_seed(0)
    built = DvtForImageClassification(DvtConfig(**{**TINY, "num_labels": 5, **fields})).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_(std=0.3)  # so that confidences differ
    return built


def images(count: int = 12) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def thresholds_of(built: DvtForImageClassification, pixel_values: torch.Tensor) -> torch.Tensor:
    """Thresholds with which a third leaves at each exit."""
    confidences = confidence(built.classify_all(pixel_values).transpose(0, 1))
    return find_thresholds(confidences, torch.tensor([1 / 3, 1 / 3, 1 / 3]))


@pytest.mark.parametrize(
    ("old", "new"), [((7, 7), (10, 10)), ((10, 10), (14, 14)), ((3, 5), (4, 9)), ((4, 4), (3, 2))]
)
def test_enlarging_is_nearest_then_adaptive_average(old, new):
    grid = torch.randn(2, 3, *old)
    doubled = nn.functional.interpolate(grid, (2 * old[0], 2 * old[1]), mode="nearest")
    expected = nn.functional.adaptive_avg_pool2d(doubled, new).flatten(2).transpose(1, 2)
    torch.testing.assert_close(enlarge(grid.flatten(2).transpose(1, 2), old, new), expected)


def test_the_class_tokens_scores_are_enlarged_along_the_other_axis_alone():
    scores = torch.randn(2, 1, 1 + 4, 1 + 4)
    larger = enlarge_scores(scores, (2, 2), (3, 3))
    assert larger.shape == (2, 1, 10, 10)
    torch.testing.assert_close(larger[..., 0, 0], scores[..., 0, 0])
    torch.testing.assert_close(larger[..., 1:, 0], enlarge(scores[..., 1:, :1], (2, 2), (3, 3))[..., 0])


@pytest.mark.parametrize(("feature_reuse", "relation_reuse"), REUSE)
@pytest.mark.parametrize("stem", ["t2t", "patch"])
@torch.no_grad()
def test_early_exits_change_no_logits(feature_reuse, relation_reuse, stem):
    built = model(feature_reuse=feature_reuse, relation_reuse=relation_reuse, **PATCHES if stem == "patch" else {})
    pixel_values = images()
    thresholds = thresholds_of(built, pixel_values)
    every = built.classify_all(pixel_values)
    exits = choose_exits(confidence(every.transpose(0, 1)), thresholds)
    assert exits.bincount().tolist() == [4, 4, 4]
    for given in (thresholds, thresholds[:-1].tolist()):
        outputs = built.adaptive(pixel_values, given)
        assert outputs.exits.tolist() == exits.tolist()
        torch.testing.assert_close(outputs.logits, every[torch.arange(12), exits], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_networks_see_only_the_images_that_are_left():
    built, sizes = model(), []
    for network in built.model.networks:
        network.register_forward_hook(lambda module, arguments, state: sizes.append(len(state.tokens)))
    built.adaptive(images(), thresholds_of(built, images()))
    assert sizes[-3:] == [12, 8, 4]
    del sizes[:]
    assert built.adaptive(images(), [0.0, 0.0]).exits.tolist() == [0] * 12
    assert sizes == [12]
    assert built.adaptive(images(), [2.0, 2.0]).exits.tolist() == [2] * 12
    assert sizes == [12] * 4


@torch.no_grad()
def test_thresholds_of_the_configuration_choose_the_logits(tmp_path):
    built, pixel_values = model(), images()
    assert built(pixel_values).exits is None
    built.config.exit_thresholds = thresholds_of(built, pixel_values).tolist()
    built.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    early = loaded(pixel_values)
    assert early.exit_logits is None
    whole = loaded(pixel_values, labels=torch.zeros(12, dtype=torch.long))
    assert whole.exit_logits.shape == (12, 3, 5)
    assert early.exits.tolist() == whole.exits.tolist()
    torch.testing.assert_close(early.logits, whole.logits, atol=1e-4, rtol=1e-4)
    assert len(loaded(pixel_values, output_hidden_states=True).hidden_states) == 3
    assert loaded.train()(pixel_values).exits is None


def test_a_pipeline_leaves_early():
    built = model(exit_thresholds=[0.0, 0.0])
    classify = pipeline("image-classification", model=built, image_processor=tiny_processor())
    found = {entry["label"]: entry["score"] for entry in classify(image())}
    with torch.no_grad():
        first = built.classify_all(tiny_processor()(image(), return_tensors="pt")["pixel_values"])[0, 0].softmax(0)
    expected = {built.config.id2label[index]: float(score) for index, score in enumerate(first)}
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_loss_is_the_sum_of_all_exits():
    built, labels = model(), torch.arange(12) % 5
    outputs = built(images(), labels=labels)
    parts = [nn.functional.cross_entropy(logits, labels) for logits in outputs.exit_logits.unbind(1)]
    torch.testing.assert_close(outputs.loss, sum(parts))
    torch.testing.assert_close(outputs.logits, outputs.exit_logits[:, -1])


def test_the_first_network_reuses_nothing():
    first, second, third = model().model.networks
    assert first.relation_reuse is None
    assert not hasattr(first.layers[0], "reuse_mlp")
    for network in (second, third):
        assert network.relation_reuse is not None
        assert hasattr(network.layers[0], "reuse_mlp")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strides": [8, 6]}, "strides needs one value per network"),
        ({"kernel_sizes": [7], "strides": [4], "paddings": [2]}, "at least two networks"),
        ({"paddings": [3, 5, 9]}, "paddings must lie between 0 and half"),
        ({"exit_thresholds": [0.5]}, "exit_thresholds needs one value for each of 3 exits"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DvtConfig(**fields)


def test_wrong_thresholds_are_refused():
    with pytest.raises(ValueError, match="there are no thresholds"):
        model().adaptive(images(1))
    with pytest.raises(ValueError, match="a single image needs a leading batch axis"):
        model().adaptive(images(1)[0], [0.5, 0.5])
    with pytest.raises(ValueError, match="got 4 values"):
        model().adaptive(images(1), [0.5] * 4)
    with pytest.raises(ValueError, match="too small for the first split's patches of 14x14"):
        model()(images(1)[..., :7, :7])
    with pytest.raises(ValueError, match="too small for patches of 15x15"):
        model(**PATCHES)(images(1)[..., :7, :7])


def test_thresholds_take_the_most_confident_of_those_left():
    confidences = torch.tensor([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.4, 0.3], [1.0, 1.0, 1.0, 1.0]])
    thresholds = find_thresholds(confidences, torch.tensor([0.5, 0.25, 0.25]))
    assert thresholds.tolist() == pytest.approx([0.8, 0.4, OPEN])
    assert choose_exits(confidences, thresholds).tolist() == [0, 0, 1, 2]
    # floor(4 * 0.2) is no image; then floor(4 * 0.9) are three of four.
    assert find_thresholds(confidences, torch.tensor([0.2, 0.9, 0.1]))[:2].tolist() == pytest.approx([CLOSED, 0.2])


def test_a_budget_is_kept_and_used():
    generator = torch.Generator().manual_seed(0)
    confidences, costs = torch.rand(3, 400, generator=generator), torch.tensor([1.0, 3.0, 8.0])
    right = torch.ones_like(confidences, dtype=torch.bool)
    found = [
        outcome(confidences, right, costs, thresholds_for_budget(confidences, costs, budget)).cost
        for budget in (1.5, 3.0, 6.0)
    ]
    assert found == sorted(found)
    for cost, budget in zip(found, (1.5, 3.0, 6.0), strict=True):
        assert 0.9 * budget < cost <= budget
    with pytest.raises(ValueError, match="a budget of 1 cannot be kept"):
        thresholds_for_budget(confidences, costs, 1.0)


def test_fractions_prefer_early_exits_below_a_rate_of_one():
    assert exit_fractions(0.5, 3).tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert exit_fractions(1.0, 4).tolist() == pytest.approx([0.25] * 4)
