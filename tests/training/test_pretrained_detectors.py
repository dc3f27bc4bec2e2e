"""Detectors that start from other models: masks stay, heads are reordered or named as new, and others are refused."""

import logging

import pytest
import torch

from hf_vits import (
    MaskRcnnConfig,
    MaskRcnnForInstanceSegmentation,
    MaskRcnnForObjectDetection,
    RetinaNetConfig,
    RetinaNetForObjectDetection,
    SwinBackbone,
    SwinConfig,
    SwinForImageClassification,
    VitsDetectionProcessor,
)
from hf_vits.recipe import InitializationRecipe, ModelRecipe
from hf_vits.training import tasks
from hf_vits.training.building import build_model
from hf_vits.training.building.detectors import initialize_backbone
from hf_vits.training.classification import label_fields

from ..models.detection.forms import CASCADE, DENSE, REGIONS, SWIN

NAMES, OTHER_ORDER = ["cat", "dog", "eel"], ["eel", "cat", "dog"]
KINDS = {
    "retina_net": (RetinaNetForObjectDetection, RetinaNetConfig, DENSE),
    "masks": (MaskRcnnForInstanceSegmentation, MaskRcnnConfig, REGIONS),
    "cascade": (MaskRcnnForInstanceSegmentation, MaskRcnnConfig, CASCADE),
    "boxes": (MaskRcnnForObjectDetection, MaskRcnnConfig, REGIONS),
}
IMAGES = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))


def make(kind: str, **fields):
    model_class, config_class, form = KINDS[kind]
    torch.manual_seed(0)
    model = model_class(config_class(**form | {"max_detections": 1000} | label_fields(NAMES) | fields)).eval()
    for parameter in model.parameters():  # far from the beginning, where all classes have the same score
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return model


def saved(model, folder) -> str:
    model.save_pretrained(folder)
    VitsDetectionProcessor().save_pretrained(folder)
    return str(folder)


def built(source: str, names: list[str], **config):
    recipe = ModelRecipe(pretrained=source, config=config)
    return build_model(recipe, label_fields(names), tasks.load("object-detection"))[0].eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_classes_in_another_order_give_the_same_detections(kind, tmp_path):
    model = make(kind)
    other = built(saved(model, tmp_path), OTHER_ORDER)
    assert type(other) is type(model)
    expected, outputs = model(IMAGES), other(IMAGES)
    torch.testing.assert_close(outputs.scores, expected.scores)
    for name in NAMES:  # of equal scores, the order may differ
        found, wanted = (
            part.scores[part.pred_labels == names.index(name)]
            for part, names in ((outputs, OTHER_ORDER), (expected, NAMES))
        )
        assert len(wanted)
        torch.testing.assert_close(found, wanted)
    if kind in ("masks", "cascade"):
        torch.testing.assert_close(outputs.pred_masks.sum(), expected.pred_masks.sum())


@pytest.mark.parametrize("kind", ["retina_net", "masks"])
def test_heads_of_other_classes_are_new_and_named(kind, tmp_path, caplog):
    model = make(kind)
    with caplog.at_level(logging.WARNING):
        other = built(saved(model, tmp_path), ["ant", "bee", "cat", "dog"])
    new = {name for name in dict(other.named_parameters()) if name in caplog.text}
    assert new == set(model.label_rows(range(3)))
    before = model.state_dict()
    for name, weight in other.state_dict().items():
        assert name in new or torch.equal(weight, before[name]), name


def test_what_fits_no_detector_is_refused(tmp_path):
    source = saved(make("retina_net"), tmp_path / "whole")
    with pytest.raises(ValueError, match=r"do not fit .*backbone\.pyramid"):
        built(source, NAMES, pyramid_size=16)
    model = make("masks")
    weights = {name: value for name, value in model.state_dict().items() if "mask_head.prediction" not in name}
    model.save_pretrained(tmp_path / "part", state_dict=weights)
    VitsDetectionProcessor().save_pretrained(tmp_path / "part")
    with pytest.raises(ValueError, match=r"lacks weights, such as mask_head\.prediction"):
        built(str(tmp_path / "part"), NAMES)


def test_a_detector_starts_from_the_backbone_of_another_model(tmp_path, caplog):
    encoder = {name: value for name, value in SWIN.items() if name not in ("model_type", "out_features")}
    torch.manual_seed(1)
    classifier, detector = SwinForImageClassification(SwinConfig(**encoder, num_labels=7)), make("boxes")
    classifier.save_pretrained(tmp_path / "classifier")
    detector.save_pretrained(tmp_path / "detector")
    with caplog.at_level(logging.WARNING):
        for source, part in ((classifier, classifier), (detector, detector.backbone.model)):
            target = make("retina_net")
            folder = tmp_path / ("classifier" if source is classifier else "detector")
            initialize_backbone(target, InitializationRecipe(pretrained=str(folder)))
            trained, started = part.state_dict(), target.backbone.model.state_dict()
            common = trained.keys() & started.keys()
            assert len(common) > 20
            assert all(torch.equal(started[name], trained[name]) for name in common)
            assert all("norm" in name for name in started.keys() - common)
    assert "pyramid and heads" in caplog.text
    assert "of which all else is left out" in caplog.text


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({"hidden_sizes": [16, 16]}, {}, "have another shape, such as"),
        ({}, {"positions": "tile"}, "has no positions"),
        ({"model_type": "hf_vits_cct"}, {}, "is of type hf_vits_cct"),
    ],
)
def test_a_backbone_of_another_kind_is_refused(tmp_path, fields, options, message):
    config = SwinConfig(**{name: value for name, value in SWIN.items() if name != "model_type"})
    if "model_type" in fields:
        from hf_vits import CctConfig

        CctConfig().save_pretrained(tmp_path)
    else:
        config = SwinConfig(**config.to_dict() | fields)
        SwinForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        initialize_backbone(make("retina_net"), InitializationRecipe(pretrained=str(tmp_path), **options))


def test_a_recipe_may_replace_the_backbone_and_choose_its_maps():
    backbone = SWIN | {"out_features": ["stage1", "stage2"]}
    recipe = ModelRecipe(
        system="detection", variant="MaskRCNN_1x_RegionViT-S", config=REGIONS | {"backbone_config": backbone}
    )
    model, _ = build_model(recipe, label_fields(NAMES), tasks.load("object-detection"))
    assert type(model.backbone.model) is SwinBackbone
    assert model.backbone.model.out_features == ["stage1", "stage2"]
    assert isinstance(model, MaskRcnnForInstanceSegmentation)
