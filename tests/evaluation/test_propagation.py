"""Propagation of labels through videos beyond the golden cases, DAVIS's measures, keypoints, and the command."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from hf_vits.cli import main
from hf_vits.data.synthetic.moving_objects import LIST, MASKS, moving_objects
from hf_vits.data.videos.masks import load_masked_videos, load_pose_videos
from hf_vits.evaluation.keypoints import correct_keypoints, keypoint_labels, locate
from hf_vits.evaluation.propagation import LabelPropagation, fuse_features, similar_cells
from hf_vits.evaluation.video_segmentation import (
    boundary_accuracy,
    feature_map,
    measure_objects,
    region_similarity,
    segment_video,
    summary,
)
from hf_vits.figures.propagation import draw_propagated
from hf_vits.models.res_net.configuration_res_net import ResNetConfig
from hf_vits.models.res_net.modeling_res_net import ResNetModel
from hf_vits.processing.image import VitsImageProcessor


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    return moving_objects(tmp_path_factory.mktemp("data") / "davis", videos=1, frames=5, size=(48, 64))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = ResNetConfig(stem_hidden_size=16, depths=[1, 1], hidden_sizes=[16, 32], strides=[1, 1])
    ResNetModel(config).save_pretrained(folder)
    VitsImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(folder)
    return folder


def moved(shifts: int) -> torch.Tensor:
    """Features of a picture (20 x 24 cells) that moves down by a cell per frame, each cell unlike all others."""
    cells = normalize(torch.randn(40, 20, 24, generator=torch.Generator().manual_seed(0)), dim=0)
    return torch.stack([cells.roll(shift, 1) for shift in range(shifts)])


@pytest.mark.parametrize("radius", [3, None])
def test_labels_move_with_the_features(radius):
    labels = torch.zeros(2, 20, 24)
    labels[1, 2:6, 3:9] = 1
    labels[0] = 1 - labels[1]
    soft = LabelPropagation(num_context=2, topk=1, radius=radius, long_term=())(moved(8), labels)
    assert torch.equal(soft, torch.stack([labels.roll(shift, 1) for shift in range(8)]))


def test_a_label_moves_no_further_than_the_radius_but_from_long_term_frames():
    features = moved(2)[[0]].repeat(2, 1, 1, 1)
    features[1] = features[1].roll(10, 1)
    labels = torch.zeros(2, 20, 24)
    labels[1, 2, 3], labels[0] = 1, 1
    assert LabelPropagation(1, 1, radius=4)(features, labels)[1, 1, 12, 3] == 1
    assert LabelPropagation(1, 1, radius=4, long_term=())(features, labels)[1, 1, 12, 3] == 0


def test_squares_of_any_size_find_the_same_cells():
    frames = normalize(torch.randn(4, 19, 22, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    found = [similar_cells(frames[0], list(frames[1:]), 6, 0.1, 5, 1, [1, 2, 1], side) for side in (4, 16, 22)]
    for one, other in itertools.pairwise(found):
        assert torch.equal(one.indices, other.indices)
        torch.testing.assert_close(one.weights, other.weights)


def test_no_more_frames_are_kept_than_are_needed():
    seen = []
    propagation = LabelPropagation(num_context=3, topk=2)
    predict = propagation.predict
    object.__setattr__(propagation, "predict", lambda *args: seen.append(sorted(args[1])) or predict(*args))
    propagation(iter(moved(12)), torch.rand(2, 20, 24))
    assert seen[-1] == [0, 8, 9, 10, 11]


def test_fused_features_weigh_the_similarities_of_both():
    fine, semantic = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 3, 4)
    fused = fuse_features(fine, semantic, weight=2.0)
    dots = [torch.einsum("cij,cij->ij", *normalize(one, dim=1)) for one in (fine, semantic, fused)]
    torch.testing.assert_close(dots[2], (4 * dots[0] + dots[1]) / 5)
    with pytest.raises(ValueError, match="of the same frames and grid"):
        fuse_features(fine, semantic[..., :2])


# DAVIS's measures; the expected values were computed by davis2017-evaluation on the masks of `drawn`.


def drawn() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(0)
    truth = np.zeros((8, 60, 80), np.uint8)
    predicted = truth.copy()
    for frame, number in itertools.product(range(8), (1, 2)):
        top, left = random.randint(0, 30, 2)
        truth[frame, top : top + 25, left : left + 30] = number
        down, right = random.randint(-3, 4, 2)
        predicted[frame, max(top + down, 0) : top + down + 22, max(left + right, 0) : left + right + 33] = number
    return predicted, truth


def test_j_and_f_are_daviss():
    expected = {"J&F": 0.47932088004086, "J_mean": 0.58435951326549, "J_recall": 0.75, "J_decay": -0.16932462410552}
    expected |= {"F_mean": 0.37428224681624, "F_recall": 1 / 3, "F_decay": 0.02816175684348}
    assert summary(measure_objects(*drawn())) == pytest.approx(expected, abs=1e-9)


def test_measures_of_empty_and_ignored_masks():
    empty, full = np.zeros((6, 6), bool), np.ones((6, 6), bool)
    square = empty.copy()
    square[1:4, 1:4] = True
    assert region_similarity(empty, empty) == boundary_accuracy(empty, empty) == 1
    assert region_similarity(square, empty) == boundary_accuracy(square, empty) == 0
    assert boundary_accuracy(square, square) == 1
    assert region_similarity(full, square, ignored=~square) == 1
    predicted, truth = drawn()
    truth[:, :20] = 255
    ignored = predicted.copy()
    ignored[:, :20] = 0
    assert measure_objects(predicted, truth) == measure_objects(ignored, truth)


def test_keypoints_are_located_in_the_middle_of_their_cells():
    keypoints = torch.tensor([[20.0, 12.0], [-1.0, 5.0], [36.0, 28.0]])
    labels = keypoint_labels(keypoints, (4, 6), (8.0, 8.0))
    assert torch.equal(labels.sum(dim=0), torch.ones(4, 6))
    assert torch.equal(locate(labels[None], (8.0, 8.0))[0], torch.tensor([[20.0, 12.0], [-1, -1], [36.0, 28.0]]))


def test_a_keypoint_is_correct_within_a_part_of_the_persons_size():
    truth = np.array([[[0.0, 0], [30, 40]]] * 3)  # of size 0.6 * 50
    predicted = truth.copy()
    predicted[0], predicted[1, 0], predicted[2, 1] = -1, (3, 0), (30, 49.5)
    found = correct_keypoints([predicted], [truth])
    assert found == {0.1: 0.75, 0.2: 0.75, 0.3: 0.75, 0.4: 1.0, 0.5: 1.0}
    with pytest.raises(ValueError, match="keypoint 1 is visible in no frame"):
        correct_keypoints([np.where([[[False], [True]]] * 3, -1, predicted)], [truth])


def test_feature_maps_of_any_kind_of_encoder():
    from hf_vits import ViTConfig, ViTModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    model = ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes)).eval()
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 32, 48), output_hidden_states=True)
    last = feature_map(outputs, model.config, (32, 48))
    assert last.shape == (1, 16, 4, 6)
    assert torch.equal(last[0, :, 1, 2], outputs.last_hidden_state[0, model.config.num_prefix_tokens + 8])
    assert not torch.equal(feature_map(outputs, model.config, (32, 48), 2), last)
    with pytest.raises(ValueError, match="stages or layers 1 to 3, got stage=4"):
        feature_map(outputs, model.config, (32, 48), 4)


def test_moving_objects_repeat_and_cover_one_another(davis, tmp_path):
    (video,) = load_masked_videos(davis)
    masks = video.masks()
    assert masks.shape == (5, 48, 64)
    assert set(np.unique(masks)) == {0, 1, 2}
    again = load_masked_videos(moving_objects(tmp_path / "again", videos=1, frames=5, size=(48, 64)))[0]
    assert np.array_equal(again.masks(), masks)
    assert np.array_equal(np.asarray(again.frames[3]), np.asarray(video.frames[3]))
    with pytest.raises(ValueError, match="objects must lie between 1 and 7, got 9"):
        moving_objects(tmp_path / "many", objects=9)


def test_the_command_measures_objects_and_draws_them(davis, encoder, tmp_path, capsys):
    options = ["--method", "propagate", "--sheet", str(tmp_path / "sheet.png"), "--masks-to", str(tmp_path / "masks")]
    assert main(["evaluate", str(encoder), str(davis), *options, "--semantic", str(encoder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["objects"] == 2
    assert 0.2 < result["J&F"] < 1
    assert Image.open(tmp_path / "sheet.png").width > 1000
    written = Image.open(tmp_path / "masks" / "video000" / "00000.png")
    (video,) = load_masked_videos(davis)
    assert np.array_equal(np.asarray(written), video.mask(0))
    assert main(["evaluate", str(encoder), str(davis), "--method", "propagate", "--target", "parts", "--json"]) == 0
    assert 0.2 < json.loads(capsys.readouterr().out)["mIoU"] < 1


def test_the_command_follows_keypoints(encoder, tmp_path, capsys):
    from scipy.io import savemat

    frames, keypoints = tmp_path / "Rename_Images/wave/one", tmp_path / "joint_positions/wave/one"
    frames.mkdir(parents=True), keypoints.mkdir(parents=True)
    noise = np.random.RandomState(0).randint(0, 255, (40, 48, 3), np.uint8)
    for number in range(3):
        Image.fromarray(noise).save(frames / f"{number + 1:05}.png")
    places = np.array([[10.0, 30.0, 40.0], [12.0, 20.0, 35.0]])  # x and y of three keypoints, from 1
    savemat(keypoints / "joint_positions.mat", {"pos_img": np.repeat(places[..., None], 3, axis=2)})
    assert load_pose_videos(tmp_path)[0].keypoints[2].tolist() == [[9, 11], [29, 19], [39, 34]]
    assert main(["evaluate", str(encoder), str(tmp_path), "--method", "propagate", "--target", "pose", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [row["threshold"] for row in results] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert results[1]["PCK"] == 1  # the picture stands still, and cells are small


def test_bad_masks_and_folders_are_named(davis, encoder, tmp_path):
    frames = [Image.new("RGB", (16, 8))] * 3
    blank = np.zeros((8, 16), np.uint8)
    with pytest.raises(ValueError, match="has no object: there is nothing to follow"):
        segment_video(frames, np.where(blank == 0, 255, blank), [], LabelPropagation())
    with pytest.raises(ValueError, match=r"of the frame's size \(8, 16\), got \(8, 8\)"):
        segment_video(frames, blank[:, :8], [], LabelPropagation())
    with pytest.raises(ValueError, match=r"on the grid of the features, got \(2, 9, 9\)"):
        LabelPropagation()(moved(2), torch.rand(2, 9, 9))
    with pytest.raises(ValueError, match="radius must be positive"):
        LabelPropagation(radius=0)
    with pytest.raises(ValueError, match="three or more, got 2"):
        measure_objects(*(masks[:2] for masks in drawn()))
    with pytest.raises(FileNotFoundError, match="JPEGImages/480p and Annotations/480p"):
        load_masked_videos(tmp_path)
    (video,) = load_masked_videos(moving_objects(tmp_path / "odd", videos=1, frames=3, size=(48, 64)))
    Image.new("P", (30, 20)).save(video.mask_files[1])
    with pytest.raises(ValueError, match=r"00001.png is of \(20, 30\) pixels, its frame of \(48, 64\)"):
        video.masks()
    Image.new("RGB", (64, 48)).save(video.mask_files[1])
    with pytest.raises(ValueError, match="must be a palette or grey image, whose values number objects, got RGB"):
        video.masks()
    video.mask_files[1].unlink()
    with pytest.raises(ValueError, match=r"1 frames have no mask in .*, the first 00001\.jpg"):
        load_masked_videos(tmp_path / "odd")
    (tmp_path / "odd" / LIST).unlink()
    (tmp_path / "odd" / MASKS / "video000" / "00001.png").write_bytes(video.mask_files[0].read_bytes())
    assert len(load_masked_videos(tmp_path / "odd")) == 1


def test_masks_are_drawn_over_frames(tmp_path):
    frames = np.full((3, 8, 12, 3), 100, np.uint8)
    masks = np.zeros((3, 8, 12), np.uint8)
    masks[:, :4] = 1
    draw_propagated([("video", frames, masks, masks)], tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
