"""Segmentation from patch tokens: clusters, foreground, communities, heads; scenes, folders of masks, the command."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hf_vits.cli import main
from hf_vits.data.images.masked import load_masked
from hf_vits.data.images.sources import scenes as source
from hf_vits.data.synthetic.scenes import draw_scene, scenes
from hf_vits.evaluation import foreground
from hf_vits.evaluation.clustering import kmeans, principal_components
from hf_vits.evaluation.communities import co_occurrence, communities, edges
from hf_vits.evaluation.dense_features import DenseFeatures, MaskedSamples, extract_dense
from hf_vits.evaluation.mean_iou import mean_iou
from hf_vits.evaluation.segmentation import extract_foreground, segment_by_clusters, segment_by_communities
from hf_vits.evaluation.segmentation_head import HeadSettings, load_head, predict, train_head
from hf_vits.layers.segmentation_head import FCNHead
from hf_vits.recipe import DataRecipe

from ..support.hub import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes(tmp_path_factory.mktemp("scenes"), count=15, size=32)


def blocks(images: int = 12, side: int = 8, classes: int = 3, seed: int = 0) -> DenseFeatures:
    """Token maps that name the class of each place, with a little noise; objects are squares on a background."""
    random = np.random.default_rng(seed)
    masks = np.zeros((images, side, side), np.int64)
    for image in masks:
        row, column = random.integers(side // 2, size=2)
        image[row : row + 4, column : column + 4] = random.integers(1, classes)
    maps = torch.nn.functional.one_hot(torch.from_numpy(masks), classes).float().movedim(-1, 1)
    noise = torch.from_numpy(random.standard_normal((images, 8, side, side)) * 0.05).float()
    maps = torch.cat([maps, torch.zeros(images, 8 - classes, side, side)], dim=1) + noise
    return DenseFeatures(maps, torch.from_numpy(masks), torch.from_numpy(masks > 0))


def test_clusters_that_are_classes_have_an_iou_of_one():
    features = blocks()
    found = segment_by_clusters(features, 3, 3)
    assert found.measured.mean == pytest.approx(1)
    assert segment_by_clusters(features, 9, 3).measured.mean == pytest.approx(1)
    assert found.predictions.shape == (12, 8, 8)


def test_an_iou_by_hand():
    truth = np.array([0, 0, 1, 1, 255])
    measured = mean_iou(np.array([1, 1, 0, 1, 0]), truth, 2, 2)
    assert measured.classes.tolist() == [1, 0]
    assert measured.iou.tolist() == pytest.approx([2 / 3, 1 / 2])
    assert mean_iou(np.array([0, 0, 0, 1, 3]), truth, 4, 2, None).mean == pytest.approx((2 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize(
    ("predictions", "truth", "message"),
    [
        ([0, 1], [0, 2], "labels must lie between 0 and 1 or be 255"),
        ([0, 3], [0, 1], "clusters must lie between 0 and 1"),
        ([0, 1, 1], [0, 1], "resize one to the other"),
    ],
)
def test_labels_and_shapes_that_do_not_fit_are_refused(predictions, truth, message):
    with pytest.raises(ValueError, match=message):
        mean_iou(np.array(predictions), np.array(truth), 2, 2)


@pytest.mark.parametrize("spherical", [False, True])
def test_kmeans_finds_groups_and_repeats_itself(spherical):
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.eye(4)
    points = centres.repeat_interleave(20, dim=0) + 0.1 * torch.randn(80, 4, generator=generator)
    clusters = kmeans(points, 4, spherical=spherical, restarts=3)
    assert [len(part.unique()) for part in clusters.split(20)] == [1, 1, 1, 1]
    assert len(clusters.unique()) == 4
    assert torch.equal(kmeans(points, 4, spherical=spherical, restarts=3), clusters)
    with pytest.raises(ValueError, match="81 clusters cannot be found in 80 vectors"):
        kmeans(points, 81)


def test_an_empty_cluster_gets_half_of_the_largest():
    points = torch.cat([torch.ones(30, 2), torch.tensor([[3.0, 1.0]])])  # most starts are twice the same point
    assert len(kmeans(points, 2, restarts=1, seed=3).unique()) == 2


def test_components_are_those_of_standardised_features():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 6, generator=generator) * torch.tensor([1, 5, 2, 1, 1, 0.0])
    found = principal_components(features, 3)
    deviations = found.std(dim=0)
    assert (deviations[:-1] >= deviations[1:]).all()
    assert found.isfinite().all()
    with pytest.raises(ValueError, match="7 components cannot be found"):
        principal_components(features, 7)


def test_foreground_is_found_without_masks_of_the_images():
    train, test = blocks(), blocks(seed=1)
    noisy = test.region.clone()
    noisy[:, :, 0] = True  # attention that takes in a column of the background
    found = extract_foreground(train, test._replace(region=noisy), num_clusters=20)
    assert found.jaccard > 0.95 > found.attention_jaccard
    with pytest.raises(ValueError, match="no class token"):
        extract_foreground(train._replace(region=None), test)
    with pytest.raises(ValueError, match="too few to divide"):
        foreground.cuts(np.zeros((1, 2, 2), int), np.zeros(1), np.zeros((1, 2, 2)))


def test_neighbours_are_counted_in_both_directions():
    image = np.array([[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [2, 2, 2, 2]]])
    matrix = co_occurrence(image, 4)
    np.testing.assert_allclose(matrix[:3].sum(axis=1), 1)
    assert not matrix[3].any()
    assert not matrix.diagonal().any()
    assert matrix[0, 1] < matrix[0, 2] + matrix[0, 1]
    links = edges(matrix, 0.01)
    assert [(i, j) for i, j, _ in links] == [(0, 1), (0, 2), (1, 2)]


def test_parts_that_occur_together_are_a_community():
    pairs = [(0, 1, 1.0), (1, 2, 1.0), (0, 2, 1.0), (3, 4, 1.0), (4, 5, 1.0), (3, 5, 1.0)]
    found = communities(pairs, 7, num_communities=2)
    assert len(set(found[:3])) == len(set(found[3:6])) == 1
    assert found[0] != found[3]
    assert found[6] == 0
    assert not communities([], 3).any()
    train, test = blocks(), blocks(seed=1)
    whole = segment_by_communities(train, test, 3, num_clusters=4, foreground_clusters=20, runs=2)
    assert whole.upper_bound > 0.9
    assert 0 < whole.mean <= whole.upper_bound + 1e-9
    assert whole.segmentations[0].predictions.shape == (12, 8, 8)


@pytest.mark.parametrize("kind", ["linear", "fcn"])
def test_a_head_learns_what_the_tokens_say_and_leaves_out_what_is_unknown(kind):
    train, test = blocks(), blocks(seed=1)
    masks = train.masks.clone()
    masks[:, 0] = 255
    torch.manual_seed(0)
    head = FCNHead(8, 3, channels=24) if kind == "fcn" else kind
    settings = HeadSettings(learning_rate=0.2 if kind == "fcn" else 0.5, epochs=20, batch_size=4, drop_at=15)
    trained = train_head(train.maps, masks, 3, head, settings, side=8)
    predictions = predict(trained, test.maps, side=8).numpy()
    assert mean_iou(predictions, test.masks.numpy(), 3, 3, None).mean > 0.8
    with pytest.raises(ValueError, match="labels 0 to 2, or 255"):
        train_head(train.maps, masks.where(masks != 1, 7), 3, kind)


def test_heads_of_the_original_are_read():
    linear = {
        "finetune_head.weight": torch.randn(5, 8, 1, 1),
        "finetune_head.bias": torch.zeros(5),
        "model.a": torch.ones(1),
    }
    assert load_head(linear)(torch.zeros(1, 8, 2, 2)).shape == (1, 5, 2, 2)
    with pytest.raises(ValueError, match="no segmentation head"):
        load_head({"model.a": torch.ones(1)})
    with pytest.raises(ValueError, match="0 convolutions cannot turn"):
        FCNHead(8, 5, channels=4, num_convs=0)


def test_scenes_are_the_same_for_a_seed_and_show_what_their_masks_say(folder, tmp_path):
    again = scenes(tmp_path, count=15, size=32)
    splits = load_masked(folder)
    assert [len(splits[name]) for name in ("train", "test")] == [12, 3]
    assert splits["train"].class_names[:2] == ["background", "digit 0"]
    for name, images in load_masked(again).items():
        for index in range(len(images)):
            (image, mask), (other, other_mask) = images[index], splits[name][index]
            assert np.array_equal(image, other)
            assert np.array_equal(mask, other_mask)
            assert mask.any()
            assert mask.max() <= 10
    scan = [np.full((1, 8, 8), 255, np.uint8)] * 2
    image, mask = draw_scene(np.random.default_rng(0), 48, [np.repeat(s, 10, axis=0) for s in scan])
    for label in set(mask[mask > 0]):
        assert len(np.unique(image[mask == label], axis=0)) <= 3  # one colour for each object
    with pytest.raises(ValueError, match="no class 'Bag'"):
        scenes(tmp_path, classes=["Bag"])
    with pytest.raises(ValueError, match="scenes are 5 or more"):
        scenes(tmp_path, count=2)


def test_coarse_scenes_have_classes_of_kinds(tmp_path):
    images = load_masked(scenes(tmp_path, count=5, size=16, coarse=True))["train"]
    assert images.class_names == ["background", "digit"]
    assert set(np.unique(images[0][1])) == {0, 1}
    with pytest.raises(ValueError, match=r"data\.config: scenes"):
        source.folder_of(DataRecipe(source="scenes", config="fine"))


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        (lambda f: Image.new("L", (16, 16)).save(f / "train/masks/00000.png"), ValueError, "must have the size"),
        (lambda f: Image.new("L", (32, 32), 99).save(f / "train/masks/00000.png"), ValueError, "has the label 99"),
        (lambda f: Image.new("RGB", (32, 32)).save(f / "train/masks/00000.png"), ValueError, "mode RGB"),
        (lambda f: (f / "train/masks/00000.png").unlink(), FileNotFoundError, "no mask named 00000"),
        (lambda f: (f / "test").rename(f / "held"), FileNotFoundError, "no folder test or val"),
    ],
)
def test_masks_that_do_not_fit_their_images_are_refused(tmp_path, break_it, error, message):
    made = scenes(tmp_path, count=5, size=32)
    break_it(made)
    with pytest.raises(error, match=message):
        load_masked(made)["train"][0]


@torch.no_grad()
def test_dense_features_are_the_encoders_patch_tokens(folder):
    model, processor = tiny_model("deit").base_model, tiny_processor()
    samples = MaskedSamples(load_masked(folder)["test"], processor, model, 32, 10)
    features = extract_dense(model, DataLoader(samples, 2))
    tokens = model(samples[0]["pixel_values"][None]).last_hidden_state[0, model.config.num_prefix_tokens :]
    torch.testing.assert_close(features.maps[0].flatten(1).T, tokens)
    assert features.masks.shape == (3, 10, 10)
    assert features.region.shape == features.maps[:, 0].shape


@pytest.mark.parametrize(
    ("method", "options", "keys"),
    [
        ("clusters", ["--clusters", "11", "15", "--seeds", "1", "--dimensions", "4"], {"miou", "matching"}),
        ("foreground", ["--foreground-clusters", "10"], {"jaccard", "attention_jaccard"}),
        ("communities", ["--community-clusters", "6", "--runs", "2"], {"miou", "upper_bound"}),
        ("segmentation", ["--head", "linear", "--head-epochs", "1"], {"miou", "head"}),
    ],
)
def test_the_command_measures_a_model_on_a_folder_of_masks(method, options, keys, folder, tmp_path, capsys):
    model = tmp_path / "model"
    tiny_model("deit").base_model.save_pretrained(model)
    tiny_processor().save_pretrained(model)
    picture = tmp_path / "segments.png"
    arguments = ["evaluate", str(model), str(folder), "--method", method, *options]
    assert not main([*arguments, "--picture", str(picture), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["classes"] == 11
    assert keys <= result["results"][0].keys()
    assert picture.stat().st_size > 5000
