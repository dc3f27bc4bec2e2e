"""Detectors: their parts on known values, training, exact resumption of the state, and what they refuse.

By hand, detections, masks, losses and gradients were compared with detectron2's own Python code (commit 02b5c4e2) on
the same weights and images, for RetinaNet, Mask R-CNN and Cascade Mask R-CNN with 36 images in all, some of them
without objects. Scores, boxes and pasted masks were equal; losses differed by at most 2.4e-7, gradients of the
backbone by at most 2.1e-6 of up to 6.6.
"""

import math

import pytest
import torch
from torchvision.ops import box_iou

from hf_vits import (
    MaskRcnnConfig,
    MaskRcnnForInstanceSegmentation,
    MaskRcnnForObjectDetection,
    RetinaNetConfig,
    RetinaNetForObjectDetection,
)
from hf_vits.layers.anchors import Anchors, per_anchor
from hf_vits.layers.boxes import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    l1_loss,
    match,
    overlaps,
    sample,
)
from hf_vits.layers.feature_pyramid import FeaturePyramid
from hf_vits.layers.regions import RegionPooling, crop_masks, levels_of, paste_masks

from .forms import CASCADE, DENSE, REGIONS

KINDS = {
    "dense": (RetinaNetForObjectDetection, RetinaNetConfig, DENSE),
    "boxes": (MaskRcnnForObjectDetection, MaskRcnnConfig, REGIONS),
    "masks": (MaskRcnnForInstanceSegmentation, MaskRcnnConfig, REGIONS),
    "cascade": (MaskRcnnForInstanceSegmentation, MaskRcnnConfig, CASCADE),
}


def make(kind: str, **fields):
    model_class, config_class, form = KINDS[kind]
    torch.manual_seed(0)
    return model_class(config_class(num_labels=3, **form | fields)).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))


def objects(side: int = 32) -> dict[str, torch.Tensor]:
    boxes = torch.tensor([[2.0, 3.0, 14.0, 12.0], [16.0, 4.0, 30.0, 28.0]])
    masks = torch.zeros(2, side, 40, dtype=torch.bool)
    masks[0, 3:12, 2:14], masks[1, 4:28, 16:30] = True, True
    return {"boxes": boxes, "class_labels": torch.tensor([0, 2]), "masks": masks}


def nothing(side: int = 32) -> dict[str, torch.Tensor]:
    return {name: value[:0] for name, value in objects(side).items()}


def test_anchors_are_centred_on_the_corners_of_cells():
    anchors = Anchors([[32], [64]], [0.5, 1.0, 2.0], [4, 8])
    fine, coarse = anchors([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)])
    assert fine.shape == (2 * 3 * 3, 4)
    assert fine[1].tolist() == [-16, -16, 16, 16]
    wide = torch.tensor([-16 * math.sqrt(2), -8 * math.sqrt(2), 16 * math.sqrt(2), 8 * math.sqrt(2)])
    torch.testing.assert_close(fine[0], wide)
    assert fine[4].tolist() == [-12, -16, 20, 16]  # the next cell of the row
    assert fine[3 * 3 + 1].tolist() == [-16, -12, 16, 20]  # the next row
    assert coarse[1].tolist() == [-32, -32, 32, 32]


def test_predictions_are_in_the_order_of_anchors():
    predictions = torch.arange(2 * 4 * 2 * 3.0).view(1, 8, 2, 3)  # 2 anchors of a cell, 4 numbers each
    ordered = per_anchor(predictions, 4)
    assert ordered.shape == (1, 12, 4)
    assert ordered[0, 3].tolist() == [predictions[0, 4 + part, 0, 1] for part in range(4)]


def test_overlaps_are_those_of_torchvision_but_zero_for_empty_boxes():
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [1, 1, 1, 1]])
    found = overlaps(boxes, boxes)
    torch.testing.assert_close(found[:2, :2], box_iou(boxes[:2], boxes[:2]))
    assert found[2].tolist() == [0, 0, 0]


def test_boxes_are_coded_relative_to_anchors():
    anchors, weights = torch.tensor([[0.0, 0, 10, 20]]), (10.0, 10.0, 5.0, 5.0)
    boxes = torch.tensor([[5.0, 0, 25, 20]])
    offsets = encode_boxes(boxes, anchors, weights)
    torch.testing.assert_close(offsets, torch.tensor([[10.0, 0, 5 * math.log(2), 0]]))
    torch.testing.assert_close(decode_boxes(offsets, anchors, weights), boxes)
    wide = decode_boxes(torch.tensor([[0.0, 0, 1e4, 0]]), anchors, weights)
    assert wide[0, 2] - wide[0, 0] == pytest.approx(10 * 1000 / 16)


def test_matching_by_thresholds_and_by_the_best_of_each_object():
    quality = torch.tensor([[0.8, 0.4, 0.1, 0.0], [0.2, 0.3, 0.25, 0.0]])
    matches, kinds = match(quality, 0.3, 0.7)
    assert matches.tolist() == [0, 0, 1, 0]
    assert kinds.tolist() == [POSITIVE, IGNORED, NEGATIVE, NEGATIVE]
    # The second object's best candidate is positive, though for the first, which it overlaps more.
    assert match(quality, 0.3, 0.7, keep_best=True)[1].tolist() == [POSITIVE, POSITIVE, NEGATIVE, NEGATIVE]
    assert match(quality[:0], 0.3, 0.7)[1].tolist() == [NEGATIVE] * 4


def test_negatives_fill_up_where_positives_are_few():
    labels = torch.tensor([0, 3, 3, 3, -1, 1, 2, 3])
    positive, negative = sample(labels, 4, 0.5, background=3)
    assert len(positive) == len(negative) == 2
    assert set(positive.tolist()) <= {0, 5, 6}
    positive, negative = sample(labels, 8, 0.5, background=3)
    assert (len(positive), len(negative)) == (3, 4)
    assert torch.equal(sample(labels, 4, 0.5, 3, training=False)[1], sample(labels, 4, 0.5, 3, training=False)[1])


def test_smooth_l1_is_quadratic_near_zero():
    predicted, target = torch.tensor([0.05, 2.0]), torch.zeros(2)
    assert l1_loss(predicted, target, 0.0).item() == pytest.approx(2.05)
    assert l1_loss(predicted, target, 0.1).item() == pytest.approx(0.0125 + 1.95)


def test_regions_are_read_from_the_level_of_their_size():
    boxes = torch.tensor([[0.0, 0, 224, 224], [0, 0, 112, 112], [0, 0, 8, 8], [0, 0, 2000, 2000]])
    assert levels_of(boxes, 2, 5).tolist() == [2, 1, 0, 3]
    levels = [torch.full((1, 2, 32 // 2**index, 32 // 2**index), float(index)) for index in range(2)]
    pooled = RegionPooling(3, [16, 32])(levels, [torch.tensor([[0.0, 0, 32, 32], [0, 0, 500, 500]])])
    assert pooled.shape == (2, 2, 3, 3)
    assert pooled[0].unique().tolist() == [0]
    assert pooled[1, :, 0, 0].tolist() == [1, 1]


def test_masks_are_cropped_and_pasted_back():
    mask = torch.zeros(1, 20, 24, dtype=torch.bool)
    mask[0, 4:12, 6:14] = True
    box = torch.tensor([[6.0, 4.0, 22.0, 20.0]])
    cropped = crop_masks(mask, box, 8)
    assert cropped[0, :4, :4].all()
    assert cropped.sum() == 16
    assert torch.equal(paste_masks(cropped.float(), box, (20, 24))[0], mask[0])
    assert paste_masks(cropped.float()[:0], box[:0], (20, 24)).shape == (0, 20, 24)


def test_a_pyramid_adds_coarse_to_fine():
    pyramid = FeaturePyramid([2, 3], 4, "pool")
    levels = pyramid((torch.rand(1, 2, 4, 6), torch.rand(1, 3, 2, 3)))
    assert [tuple(level.shape[1:]) for level in levels] == [(4, 4, 6), (4, 2, 3), (4, 1, 2)]
    torch.testing.assert_close(levels[2], levels[1][:, :, ::2, ::2])


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_images_without_objects_count(kind, images):
    model = make(kind).train()
    if kind == "dense":
        model.loss_normalizer.momentum = 0.0  # else the loss is divided by less and less
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for step in range(12):
        torch.manual_seed(step)
        loss = model(images, labels=[objects(), nothing()]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    outputs = model(images, labels=[nothing(), nothing()])
    assert outputs.scores is None
    assert torch.isfinite(outputs.loss)
    model.zero_grad()
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_batch_of_images_is_refused(kind, images):
    model = make(kind).eval()
    for odd in (None, images[0], images.flatten(), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="pixel_values"):
            model(odd)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_detection(kind, images):
    """Boxes are clipped to the image, not to the padded batch; the mask says where it ends."""
    model, mask = make(kind), torch.zeros(2, 32, 40, dtype=torch.int64)
    mask[0], mask[1, :24, :32] = 1, 1
    outputs = model(images * mask[:, None], mask)
    assert outputs.image_sizes.tolist() == [[32, 40], [24, 32]]
    found = outputs.pred_labels[1] >= 0
    assert found.any()
    if kind != "dense":
        assert outputs.pred_boxes[1, found, 2].max() <= 32
        assert outputs.pred_boxes[1, found, 3].max() <= 24
    assert (outputs.scores[:, :-1] >= outputs.scores[:, 1:]).all()
    evaluated = model(images, labels=[objects(), nothing()])
    assert evaluated.scores is not None
    torch.testing.assert_close(evaluated.loss, model(images, labels=[objects(), nothing()]).loss)


@torch.no_grad()
def test_boxes_alone_come_from_a_model_of_masks(images, tmp_path):
    model = make("masks")
    model.save_pretrained(tmp_path)
    boxes, loading = MaskRcnnForObjectDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    torch.testing.assert_close(boxes(images).pred_boxes, model(images).pred_boxes)


def test_the_normaliser_of_retina_net_is_saved(images, tmp_path):
    model = make("dense").train()
    assert model.loss_normalizer.value == 100
    model(images, labels=[objects(), nothing()])
    value = model.loss_normalizer.value.item()
    assert value < 100
    model.save_pretrained(tmp_path)
    assert RetinaNetForObjectDetection.from_pretrained(tmp_path).loss_normalizer.value.item() == value


def test_clipping_reads_height_and_width_of_the_image():
    clipped = clip_boxes(torch.tensor([[-1.0, 2, 50, 60]]), torch.tensor([40, 30]))
    assert clipped.tolist() == [[0, 2, 30, 40]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"boxes": torch.tensor([[4.0, 4, 4, 8], [0, 0, 1, 1]])}, ValueError, "x0 < x1"),
        ({"boxes": torch.tensor([[4.0, 4, float("nan"), 8], [0, 0, 1, 1]])}, ValueError, "x0 < x1"),
        ({"boxes": torch.zeros(3, 4)}, ValueError, r"boxes \(n, 4\)"),
        ({"class_labels": torch.tensor([0, 3])}, ValueError, r"lie in \[0, 3\)"),
        ({"class_labels": torch.tensor([0.0, 1.0])}, TypeError, "int64"),
        ({"masks": torch.zeros(2, 8, 8, dtype=torch.bool)}, ValueError, "masks must be"),
    ],
)
def test_odd_objects_are_refused(images, change, error, message):
    with pytest.raises(error, match=message):
        make("masks")(images, labels=[objects(), objects() | change])


def test_odd_arguments_are_refused(images):
    model = make("masks")
    with pytest.raises(ValueError, match="one for each image"):
        model(images, labels=[objects()])
    with pytest.raises(TypeError, match="list of a dict"):
        model(images, labels=[torch.zeros(2)] * 2)
    with pytest.raises(ValueError, match="pixel_mask must be"):
        model(images, torch.ones(2, 3))
    missing = {name: value for name, value in objects().items() if name != "masks"}
    with pytest.raises(ValueError, match="has no masks"):
        model(images, labels=[missing] * 2)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("dense", {"feature_strides": [4, 16]}, "twice the one before"),
        ("dense", {"anchor_sizes": [[8]]}, "4 levels"),
        ("dense", {"anchor_thresholds": [0.6, 0.5]}, "low <= high"),
        ("dense", {"num_labels": 0}, "one class or more"),
        ("masks", {"stage_thresholds": [0.5, 0.6]}, "stage_weights"),
        ("masks", {"stage_thresholds": [0.5, 0.6], "stage_weights": [[1] * 4] * 2}, "class_agnostic_boxes"),
        ("masks", {"backbone_config": {}}, "model_type"),
        ("masks", {"nms_threshold": 0}, "nms_threshold"),
        ("masks", {"feature_strides": [4]}, "feature_strides"),
        ("masks", {"backbone_config": {"model_type": "hf_vits_vit", "reshape_hidden_states": False}}, "feature maps"),
    ],
)
def test_odd_configurations_are_refused(kind, fields, message):
    _, config_class, form = KINDS[kind]
    with pytest.raises(ValueError, match=message):
        config_class(**{"num_labels": 3} | form | fields)


def test_strides_that_are_not_the_backbones_are_refused(images):
    with pytest.raises(ValueError, match="are not those of the backbone"):
        make("masks", feature_strides=[8, 16])(images)
    with pytest.raises(ValueError, match="2 feature maps"):
        make("masks", feature_strides=[4, 8, 16], anchor_sizes=[[8]] * 4)


class DensePart(torch.nn.Module):
    """Pyramid and heads of RetinaNet, without the selection of detections."""

    def __init__(self, model: RetinaNetForObjectDetection):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        return [self.model.classes(level) for level in self.model.backbone(pixel_values)]


@torch.no_grad()
def test_pyramid_and_heads_export_as_one_graph(images):
    dense = DensePart(make("dense"))
    exported = torch.export.export(dense, (images,))
    torch.testing.assert_close(exported.module()(images), dense(images))


@pytest.mark.parametrize("kind", ["dense", "masks"])
def test_half_precision_trains_and_detects(kind, images):
    model = make(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.train()(images, labels=[objects(), nothing()]).loss
        loss.backward()
        assert model.eval()(images).scores.shape == (2, 10)
    assert torch.isfinite(loss)
    assert torch.isfinite(model.bfloat16()(images.bfloat16()).scores.float()).all()


def test_code_on_the_hub_needs_the_package_for_its_own_backbones_alone():
    assert make("masks").needs_package
    swin = {"model_type": "swin", "image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2]}
    swin |= {"window_size": 4, "out_features": ["stage1", "stage2"]}
    assert not make("masks", backbone_config=swin).needs_package
