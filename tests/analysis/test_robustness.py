"""Occluded images, models with parts taken out, adversarial images, and scores; golden cases hold the originals'."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from hf_vits import DeiTConfig, DeiTForImageClassification
from hf_vits.analysis.robustness import adversarial, interventions, occlusion, scores
from hf_vits.metrics import load_metric
from hf_vits.metrics.calibration_error import adaptive_error, expected_error
from tests.support.forms import SIZES


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    fields = {**SIZES, "image_size": 40, "patch_size": 8, "num_hidden_layers": 3, "distilled": True, "num_labels": 5}
    return DeiTForImageClassification(DeiTConfig(**fields, initializer_range=0.3)).eval()


@pytest.fixture(scope="module")
def images(model):
    return torch.rand(3, model.config.num_channels, 40, 40, generator=torch.Generator().manual_seed(1))


# Images


def test_occlusion_blackens_the_cells_of_the_mask(images):
    cells = occlusion.draw_cells((5, 10), 20, torch.Generator().manual_seed(0))
    assert len(cells.unique()) == 20
    changed = occlusion.occlude(images, occlusion.mask_of_cells(cells, (5, 10)))
    assert (changed == 0).float().mean().item() == pytest.approx(20 / 50)
    moved = occlusion.pixel_mask(images, occlusion.mask_of_cells(torch.tensor([0]), (5, 5)), offset=3)
    assert not moved[3:11, 3:11].any()
    assert moved.sum() == 40 * 40 - 64


def test_shuffling_is_undone_by_the_inverse_permutation(images):
    cells = occlusion.draw_cells((4, 8), 32, torch.Generator().manual_seed(0))
    changed = occlusion.shuffle(images, cells, (4, 8))
    assert torch.equal(changed[..., :10, :5], images[:, :, cells[0] // 8 * 10 :, cells[0] % 8 * 5 :][..., :10, :5])
    assert torch.equal(occlusion.shuffle(changed, cells.argsort(), (4, 8)), images)


def test_salient_and_other_patches_are_complements():
    attention = torch.tensor([[0.1, 0.2, 0.6, 0.1]])
    salient = occlusion.salient_mask(attention, (2, 2), 0.5)
    assert salient.tolist() == [[[True, True], [False, True]]]
    assert torch.equal(occlusion.salient_mask(attention, (2, 2), 0.5, keep_salient=True), ~salient)


def test_foreground_is_what_most_of_a_cell_is():
    segmentation = torch.zeros(1, 4, 4, dtype=torch.bool)
    segmentation[0, :2, :2] = True
    segmentation[0, 3, 3] = True
    removed = occlusion.foreground_mask_of(segmentation, (2, 2))
    assert removed.tolist() == [[[False, True], [True, True]]]
    assert torch.equal(occlusion.foreground_mask_of(segmentation, (2, 2), keep_foreground=True), ~removed)


def test_void_pixels_count_only_as_the_original_counts_them():
    target = torch.tensor([[1, 1], [0, 255]])
    masks = torch.tensor([[[1, 1], [0, 1]], [[0, 1], [0, 0]]])
    assert occlusion.jaccard(masks, target) == pytest.approx(2 / 3)
    assert occlusion.jaccard(masks, target, void=255) == 1
    with pytest.raises(ValueError, match="no class beyond the ignored"):
        occlusion.jaccard(masks, torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda images: occlusion.shuffle(images, torch.arange(9), (3, 3)), "a grid of 3 x 3 cells must fill images"),
        (lambda images: occlusion.shuffle(images, torch.zeros(4).long(), (2, 2)), "permutation of the 4 cells"),
        (lambda images: occlusion.draw_cells((2, 2), 5), "count must be from 0 to the 4 cells"),
        (lambda images: interventions.draw_rows(26, 1.0, num_prefix=2), "leave at most 24 patches to drop, got 1.0"),
        (lambda images: interventions.grid_distances((2, 2), "cosine"), "distance must be one of chebyshev"),
        (lambda images: adversarial.fgsm(None, images, None, 4), "epsilon is a change of pixels from 0 to 1"),
        (lambda images: adversarial.pgd(None, images, None, 0.1, 0.1, 0), "steps must be at least 1, got 0"),
        (lambda images: scores.unknown_scores(images, "odds"), 'kind must be "max_softmax"'),
        (lambda images: scores.loss_curve(lambda x: x, [], {0.0: None}), "at least one batch of images, got none"),
        (lambda images: adaptive_error([0.5] * 9, [1] * 9), "9 inputs do not fill a bin of bin_size=100"),
    ],
)
def test_bad_arguments_are_refused(images, call, message):
    with pytest.raises(ValueError, match=message):
        call(images)


# Models


@torch.no_grad()
def test_parts_are_taken_out_only_inside_the_context(model, images):
    clean = model(images).logits
    with interventions.skipped(model, range(3)):
        tokens = model.model.embeddings(images)
        expected = model.model.norm(tokens)
        assert torch.allclose(model.model(images).last_hidden_state, expected)
        logits = (model.classifier(expected[:, 0]) + model.distillation_classifier(expected[:, 1])) / 2
        assert torch.allclose(model(images).logits, logits, atol=1e-6)
    with interventions.dropped_tokens(model, 1, torch.arange(25)):
        assert not torch.allclose(model(images).logits, clean)
    with interventions.restricted_attention(model, interventions.near_mask((5, 5), 4, num_prefix=2)):
        assert torch.allclose(model(images).logits, clean, atol=1e-5)  # nothing is farther away
    with interventions.restricted_attention(model, interventions.near_mask((5, 5), 1, num_prefix=2)):
        near = model(images).logits
    assert not torch.allclose(near, clean)
    assert torch.equal(model(images).logits, clean)


def test_restrictions_that_do_not_fit_are_refused(model, images):
    allowed = interventions.near_mask((5, 5), 1)  # one prefix token, where the model has two
    with pytest.raises(ValueError, match="allowed is for"), interventions.restricted_attention(model, allowed):
        model(images)
    with pytest.raises(ValueError, match="no attention of"), interventions.restricted_attention(model, allowed):
        pass
    with pytest.raises(ValueError, match="has layers 0 to 2, got 3"), interventions.skipped(model, [3]):
        pass


@torch.no_grad()
def test_the_last_layers_logits_are_the_models(model, images):
    logits = interventions.layer_logits(model, images)
    assert len(logits) == 3
    assert torch.allclose(logits[-1], model(images).logits, atol=1e-6)


def test_pixels_beyond_whole_patches_are_ignored(images):
    torch.manual_seed(0)
    fields = {**SIZES, "image_size": 40, "patch_size": 12, "num_labels": 5}
    with pytest.raises(ValueError, match="image_size must be a multiple of patch_size"):
        DeiTConfig(**fields)
    model = DeiTForImageClassification(DeiTConfig(**fields, ignore_border=True)).eval()
    inner = torch.nn.functional.pad(images[..., :36, :36], (0, 4, 0, 4))
    with torch.no_grad():
        assert torch.equal(model(images).logits, model(inner).logits)
        with pytest.raises(ValueError, match="cannot be cut into patches"):
            model(images[..., :11, :])
    with pytest.raises(ValueError, match="image_size must be at least patch_size"):
        DeiTConfig(**fields | {"patch_size": 48}, ignore_border=True)


# Adversarial images


def test_attacks_raise_the_loss_within_their_bound(model, images):
    classifier = adversarial.Normalised(model, [0.5], [0.25])
    labels = classifier(images).argmax(-1).detach()

    def loss(changed):
        return torch.nn.functional.cross_entropy(classifier(changed), labels).item()

    epsilon = 4 / 255
    once = adversarial.fgsm(classifier, images, labels, epsilon)
    generator = torch.Generator().manual_seed(0)
    often = adversarial.pgd(classifier, images, labels, epsilon, epsilon / 4, 10, generator=generator)
    for changed in (once, often):
        assert (changed - images).abs().max() <= epsilon + 1e-6
        assert 0 <= changed.min() <= changed.max() <= 1
    assert loss(images) < loss(once)
    assert loss(images) < loss(often)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_turned_images_come_back_and_shifts_are_whole_pixels(images):
    (same,) = adversarial.spatial_grid(images, [0], [0])
    assert torch.allclose(same, images, atol=1e-5)
    turned = adversarial.spatial_grid(images, [0], [90])[0]
    assert torch.allclose(turned, images.rot90(1, (2, 3)), atol=1e-4) or torch.allclose(
        turned, images.rot90(-1, (2, 3)), atol=1e-4
    )
    moved = adversarial.spatial_grid(images, [0, 2], [0])[3]  # two down and two right
    assert torch.allclose(moved[..., 2:, 2:], images[..., :-2, :-2], atol=1e-4)


# Scores


def test_false_positives_are_read_from_the_roc_curve():
    random = np.random.RandomState(0)
    positive = random.rand(300) < 0.3
    values = random.rand(300) + 0.5 * positive
    result = load_metric("out_of_distribution").compute(predictions=values, references=positive.astype(int))
    false, true, _ = roc_curve(positive, values, drop_intermediate=False)
    nearest = np.abs(true - 0.95).min()
    assert result["false_positive_rate"] in false[np.isclose(np.abs(true - 0.95), nearest)]
    with pytest.raises(ValueError, match="both kinds of references"):
        load_metric("out_of_distribution").compute(predictions=[0.1], references=[1])


def test_metrics_compute_what_their_functions_do(images):
    logits = torch.randn(250, 6, generator=torch.Generator().manual_seed(0)).numpy()
    labels = logits.argmax(1)
    result = load_metric("calibration_error").compute(predictions=logits, references=labels, bin_size=50)
    assert result["accuracy"] == 1
    assert result["aurra"] == 1
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    confidence = (exponentials / exponentials.sum(1, keepdims=True)).max(1)
    assert result["expected_calibration_error"] == pytest.approx(1 - confidence.mean(), abs=1e-6)
    # All are right, so that every bin's gap is its mean doubt.
    everything = adaptive_error(confidence, labels == labels, "mad", 50, keep_last_bin=True)
    assert everything == pytest.approx(expected_error(confidence, labels == labels), abs=1e-6)
    frames = np.random.RandomState(0).rand(2, 3, 9)
    flips = load_metric("flip_probability").compute(predictions=frames, is_noise=True)
    assert flips["flip_probability"] == np.mean(frames[:, 1:].argmax(-1) != frames[:, :1].argmax(-1))
    errors = load_metric("corruption_error").compute(predictions=np.full((15, 5), 0.5).tolist())
    assert errors["mean_accuracy"] == 0.5
    assert errors["corruption_errors"][0] == pytest.approx(100 * 0.5 / 0.886428)
    bias = load_metric("shape_bias").compute(predictions=[0, 1, 2, 3], references=[0, 0, 0, 3], textures=[1, 1, 1, 3])
    assert bias == {"fraction_correct_shape": 0.25, "fraction_correct_texture": 0.25, "shape_bias": 0.5}


def test_curves_start_at_the_clean_accuracy(model, images):
    classifier = adversarial.Normalised(model, [0.5], [0.25])
    labels = classifier(images).argmax(-1)
    changes = scores.occlusions((5, 5), (0, 5, 10), torch.Generator().manual_seed(0))
    curve = scores.loss_curve(classifier, [(images, labels)], changes)
    assert curve["levels"] == [0, 12 / 25, 1]
    assert curve["accuracy"][0] == 1
    # At the last level everything is black.
    logits = torch.stack([classifier(images), classifier(torch.zeros_like(images))], dim=1)
    result = load_metric("information_loss").compute(predictions=logits.tolist(), references=labels.tolist())
    assert result["accuracy"] == [1, curve["accuracy"][-1]]
    assert list(scores.shuffles([(2, 2), (4, 4)])) == [1, 4, 16]


def test_accuracy_of_corrupted_images_falls_with_severity():
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    clean = images.mean((1, 2, 3))

    def darker(batch):
        """Class 1 for the images that became much brighter."""
        return torch.stack([torch.zeros(8), batch.mean((1, 2, 3)) - clean - 0.13], 1)

    accuracy = scores.corruption_accuracy(darker, [(images, torch.zeros(8))], ["brightness", "contrast"], [1, 5])
    assert accuracy[1].tolist() == [1, 1]
    assert accuracy[0, 0] > accuracy[0, 1]


def test_categories_are_means_of_their_classes():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    probabilities = logits.softmax(1)[0]
    categories = scores.category_probabilities(logits, [[0], [1, 3]])
    assert torch.allclose(categories[0], torch.stack([probabilities[0], (probabilities[1] + probabilities[3]) / 2]))
    assert scores.unknown_scores(logits).item() == pytest.approx(-probabilities[3].item())
    assert scores.unknown_scores(logits, "max_logit").item() == -3
    assert scores.unknown_scores(logits, "energy").item() == pytest.approx(-logits.exp().sum().log().item())
