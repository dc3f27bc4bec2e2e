"""Images that neurons respond to, and tokens kept apart."""

import pytest
import torch
from transformers import ViTConfig as TransformersViTConfig
from transformers import ViTForImageClassification as TransformersViT

from hf_vits.analysis import visualization as vis
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 48}
SIZES |= {"image_size": 16, "patch_size": 8, "num_labels": 4}


@pytest.fixture(scope="module", params=["hf_vits", "transformers"])
def model(request):
    torch.manual_seed(0)
    if request.param == "hf_vits":
        made = ViTForImageClassification(ViTConfig(**SIZES))
    else:
        made = TransformersViT(TransformersViTConfig(**SIZES))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return vis.ImageModel(made.eval(), 16)


def test_neurons_respond_more_to_their_images(model):
    units = [3, 7, 11]
    options = {"repeats": 4, "steps": 40, "tv_coefficient": 0.0}
    found = vis.maximise_neurons(model, 1, units, **options)
    start = vis.Draws(0).uniform(3, 3, 16, 16)
    assert found.images.shape == (3, 3, 16, 16)
    assert found.losses.shape == (41, 3)
    assert 0 <= found.images.min() <= found.images.max() <= 1
    responses = []
    for images in (start, found.images):  # of other augmented copies than those that were optimised
        copies = vis.published_augmentation(vis.Draws(1), 32)(images)
        values = vis.patch_means(model, vis.neurons(model, copies, [1])[0]).unflatten(0, (3, 32)).mean(dim=1)
        responses.append(values[torch.arange(3), units])
    assert (responses[1] > responses[0]).all()
    again = vis.maximise_neurons(model, 1, units, **options)
    torch.testing.assert_close(again.images, found.images)


def test_inversion_comes_nearer_to_the_features_of_the_target(model):
    target = torch.rand(1, 3, 16, 16)
    losses = vis.invert_features(model, target, 0, tv_coefficient=0.0, steps=15).losses
    assert losses[-1, 0] < 0.7 * losses[0, 0]


def test_the_most_activating_images_are_found_across_batches(model):
    images = torch.rand(7, 3, 16, 16)
    found = vis.most_activating(model, images.split(3), layers=[0, 2], count=2)
    every = torch.stack([vis.patch_means(model, each) for each in vis.neurons(model, images, [0, 2])])
    values, indices = every.mT.topk(2, dim=-1)
    torch.testing.assert_close(found.values, values)
    assert (found.indices == indices).float().mean() > 0.99


def test_an_isolated_class_token_does_not_see_the_image(model):
    images = torch.rand(2, 3, 16, 16)
    with vis.isolated(model, range(3)):
        first, second = model(images).logits
    torch.testing.assert_close(first, second)
    with vis.isolated(model, range(2)):
        first, second = model(images).logits
    assert (first - second).abs().max() > 1e-3


def test_the_class_token_is_what_the_classifier_reads(model):
    pixel_values = torch.randn(2, 3, 16, 16)
    classifier = model.model
    torch.testing.assert_close(vis.read_out(classifier, pixel_values), classifier(pixel_values).logits)
    assert not torch.allclose(vis.read_out(classifier, pixel_values, "patches"), classifier(pixel_values).logits)


def test_wrong_layers_units_and_tokens_are_refused(model):
    with pytest.raises(ValueError, match="blocks 0 to 2"):
        vis.neurons(model, torch.rand(1, 3, 16, 16), [3])
    with pytest.raises(ValueError, match="units 0 to 47"):
        vis.maximise_neurons(model, 0, [48])
    with pytest.raises(ValueError, match="tokens must be"):
        vis.read_out(model.model, torch.randn(1, 3, 16, 16), "cls")
