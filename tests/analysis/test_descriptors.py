"""Dense descriptors on models of several libraries, and what is computed from them."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model
from transformers import ViTConfig as TransformersViTConfig
from transformers import ViTModel as TransformersViTModel

from hf_vits.analysis import cosegmentation as cos
from hf_vits.analysis import descriptors as dense
from hf_vits.analysis.crf import CRF, Lattice, dense_crf
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.models.vit.modeling_vit import ViTForImageClassification

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}
MLP = {"intermediate_size": 48}
MODELS = {
    "hf_vits": lambda: ViTForImageClassification(ViTConfig(**SIZES, **MLP, position_interpolation="bicubic_offset")),
    "vit": lambda: TransformersViTModel(TransformersViTConfig(**SIZES, **MLP)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2)),
    "clip": lambda: CLIPVisionModel(CLIPVisionConfig(**SIZES, **MLP)),
    "timm": lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, num_heads=3, depth=2
    ),
}


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return {name: make().eval() for name, make in MODELS.items()}


@pytest.fixture(scope="module")
def images():
    """Two images with the same bright square in other places, on noise."""
    generator = np.random.default_rng(0)
    made = []
    for place in ((4, 4), (12, 12)):
        pixels = generator.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        pixels[place[0] : place[0] + 16, place[1] : place[1] + 16] += 150
        made.append(Image.fromarray(pixels))
    return made


@pytest.mark.parametrize("name", MODELS)
def test_a_stride_makes_more_patches_and_is_undone_afterwards(models, name):
    model, pixel_values = models[name], torch.randn(1, 3, 32, 32)
    before = dense.descriptors(model, pixel_values, facet="token")
    assert before.values.shape == (1, 16, 24)
    for facet in ("key", "query", "value", "token"):
        found = dense.descriptors(model, torch.randn(2, 3, 40, 24), 0, facet, stride=4)
        assert (found.values.shape, found.grid) == ((2, 9 * 5, 24), (9, 5))
    attention, _, prefix = dense.extract_facet(model, pixel_values, 0, "attention", stride=4)
    assert attention.shape == (1, 3, prefix + 49, prefix + 49)
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(1, 3, prefix + 49))
    torch.testing.assert_close(dense.descriptors(model, pixel_values, facet="token").values, before.values)


def test_patches_that_a_stride_shares_with_the_plain_grid_are_the_same(models):
    """Without positions and other tokens to attend to, every second patch at half the stride is a patch."""
    model = models["hf_vits"].model
    table, pixel_values = model.embeddings.position_embedding.table, torch.randn(1, 3, 32, 32)
    kept = table.detach().clone()
    with torch.no_grad():
        table.zero_()
        projection = model.embeddings.patch_embedding.projection
        plain = projection(pixel_values)
        with dense.strided(model, (32, 32), 4) as (grid, _):
            assert grid == (7, 7)
            torch.testing.assert_close(projection(pixel_values)[:, :, ::2, ::2], plain)
        table.copy_(kept)


def test_log_bins_equal_a_loop_over_positions():
    values, grid = torch.randn(1, 4 * 3, 2), (4, 3)
    maps = values.mT.unflatten(2, grid)
    pooled = [maps, torch.nn.functional.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)]
    binned = dense.log_bins(values, grid)[0].unflatten(0, grid)
    for y in range(4):
        for x in range(3):
            parts = []
            for level, step in enumerate((1, 3)):
                for i in (y - step, y, y + step):
                    for j in (x - step, x, x + step):
                        if level == 0 or (i, j) != (y, x):
                            parts.append(pooled[level][0, :, min(max(i, 0), 3), min(max(j, 0), 2)])
            torch.testing.assert_close(binned[y, x], torch.cat(parts))


def test_best_buddies_of_a_shuffled_copy_are_the_shuffle():
    first = torch.randn(20, 8)
    order = torch.randperm(20)
    buddies = dense.best_buddies(first, first[order])
    assert buddies.mutual.all()
    assert torch.equal(order[buddies.forward], torch.arange(20))


def test_correspondences_of_an_image_with_itself_are_the_same_points(models, images):
    found = dense.find_correspondences(
        models["hf_vits"], (images[0], images[0]), 5, None, layer=1, threshold=0.0, stride=4
    )
    np.testing.assert_array_equal(found.first, found.second)
    assert found.first.shape == (5, 2)
    assert 4 <= found.first.min() <= found.first.max() < 32


def test_components_of_descriptors_are_a_map_per_image(models, images):
    described = [dense.descriptors(models["vit"], dense.prepare(image)[0], stride=4) for image in images]
    first, second = dense.descriptor_components(described, 3)
    assert first.shape == second.shape == (7, 7, 3)
    assert dense.components_to_rgb(first).max() == 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"facet": "keys"}, "facet must be one of"),
        ({"stride": 3}, "must divide the patch size"),
        ({"facet": "attention"}, "not a descriptor"),
        ({"bins": True, "class_token": True}, "choose bins or class_token"),
        ({"layer": 7}, "blocks 0 to 1"),
    ],
)
def test_wrong_options_are_refused(models, options, message):
    with pytest.raises(ValueError, match=message):
        dense.descriptors(models["hf_vits"], torch.randn(1, 3, 32, 32), **options)


def test_the_bright_square_is_segmented_in_both_images(images):
    """Colours in place of descriptors: the two clusters are square and noise, the square is salient."""
    pixels = [np.array(image).reshape(-1, 3).astype(np.float32) - 100 for image in images]
    bright = [(values.mean(axis=1) > 0) for values in pixels]
    clusters = cos.cluster(pixels, sample_interval=3, count=2)
    votes, salient = cos.vote(clusters.labels, [b.astype(float) for b in bright], 2, 0.5, 75)
    assert sorted(votes) == [0, 2]
    for labels, truth in zip(clusters.labels, bright, strict=True):
        np.testing.assert_array_equal(np.isin(labels, salient), truth)


def test_objects_and_parts_have_the_images_sizes(models, images):
    how = cos.Description(stride=4, sample_interval=1, low_resolution_saliency=False)
    found = cos.cosegment(models["hf_vits"], images, how, threshold=0.1, outlier_threshold=-1.0)
    assert [mask.shape for mask in found.masks] == [(32, 32)] * 2
    assert found.inliers == [0, 1]
    for three_stages in (False, True):
        parts = cos.cosegment_parts(
            models["hf_vits"], images, how, 2, 0.4, elbow=0.6,
            second_elbow=0.6, votes_percentage=50, num_crops=1,
            three_stages=three_stages, crf=CRF(iterations=1),
        ).parts  # fmt: skip
        assert [part.shape for part in parts] == [(32, 32)] * 2
        assert {-1, 0, 1}.issuperset(np.unique(parts))


def test_the_lattice_filters_like_a_gaussian():
    """A constant keeps its ratio, and the response to a point falls with the distance as a Gaussian does."""
    places = np.stack(np.meshgrid(np.arange(21), np.arange(21)), axis=-1).reshape(-1, 2) / 3
    impulse = np.zeros((441, 1), dtype=np.float32)
    impulse[220] = 1
    response = Lattice(places)(impulse)[:, 0]
    expected = np.exp(-np.square(places - places[220]).sum(axis=1) / 2)
    assert np.corrcoef(response, expected)[0, 1] > 0.97


def test_the_crf_removes_a_lone_pixel():
    costs = np.zeros((2, 15 * 15), dtype=np.float32)
    costs[1] = 1
    costs[:, 112] = [1, 0]
    smoothed = dense_crf(costs, np.full((15, 15, 3), 90, dtype=np.uint8), CRF()).argmax(axis=0)
    assert costs.argmin(axis=0)[112] == 1
    assert not smoothed.any()
