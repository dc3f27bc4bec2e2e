"""Trained models for larger images and other classes: what is interpolated, reordered, replaced and refused."""

import pytest
import torch

from hf_vits.recipe import ModelRecipe, TeacherRecipe
from hf_vits.training import tasks
from hf_vits.training.building import build_model
from hf_vits.training.building.fitting import fit_model
from hf_vits.training.class_order import class_order
from hf_vits.training.classification import label_fields
from hf_vits.training.loop.teacher import load_teacher

from ..support.hub import TINY, tiny_model, tiny_processor

TRAINED = ["cat", "dog", "eel"]
OTHER_ORDER = ["eel", "cat", "dog"]


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def saved(model, directory):
    model.save_pretrained(directory)
    tiny_processor().save_pretrained(directory)
    return str(directory)


def built(source, names, **config):
    """The model of a recipe for data with these classes."""
    task = tasks.load("image-classification")
    model, _ = build_model(ModelRecipe(pretrained=source, config=config), label_fields(names), task)
    return model.eval()


def logits(model, pixel_values):
    with torch.no_grad():
        return model(pixel_values).logits


@pytest.mark.parametrize("name", ["vit", "deit", "mvit", "pvt", "tnt", "t2t", "coat", "swin"])
def test_positions_are_interpolated_to_larger_images(name, tmp_path):
    model = tiny_model(name)
    size = model.config.image_size
    larger = images(2, 3, 2 * size, 2 * size)
    fitted = built(saved(model, tmp_path), TRAINED, image_size=2 * size)
    torch.testing.assert_close(logits(fitted, larger), logits(model, larger), atol=1e-4, rtol=1e-4)


def test_what_can_be_neither_resized_nor_replaced_is_refused(tmp_path):
    source = saved(tiny_model("levit"), tmp_path / "levit")
    size = tiny_model("levit").config.image_size
    with pytest.raises(ValueError, match=r"pretrained LevitForImageClassification do not fit \(model\."):
        built(source, TRAINED, image_size=2 * size)
    source = saved(tiny_model("vit"), tmp_path / "vit")
    with pytest.raises(ValueError, match=r"do not fit .*mlp.up.weight.*nothing else"):
        built(source, TRAINED, intermediate_size=40)
    with pytest.raises(ValueError, match=r"do not fit .*None -> "):
        built(source, TRAINED, num_hidden_layers=9)


@pytest.mark.parametrize("name", TINY)
def test_classes_in_another_order_are_matched_by_name(name, tmp_path):
    model = tiny_model(name)
    size = model.config.image_size if hasattr(model.config, "image_size") else 32
    pixel_values = images(2, 3, size, size) if isinstance(size, int) else images(2, 3, *size)
    fitted = built(saved(model, tmp_path), OTHER_ORDER)
    order = [TRAINED.index(label) for label in OTHER_ORDER]
    torch.testing.assert_close(logits(fitted, pixel_values), logits(model, pixel_values)[:, order])
    assert list(fitted.config.id2label.values()) == OTHER_ORDER


@pytest.mark.parametrize("names", [["cat", "dog", "fox"], ["cat", "dog"], ["cat", "dog", "eel", "fox"]])
def test_a_head_of_other_classes_is_replaced(names, tmp_path):
    model = tiny_model("deit", distilled=True)
    fitted = built(saved(model, tmp_path), names)
    own, kept = model.state_dict(), fitted.state_dict()
    for name, value in kept.items():
        same = value.shape == own[name].shape and torch.equal(value, own[name])
        assert same == name.startswith("model."), name


def test_names_of_another_vocabulary_keep_the_head(tmp_path):
    model = tiny_model("vit")
    fitted = built(saved(model, tmp_path), ["n01440764", "n01443537", "n01484850"])
    assert torch.equal(fitted.classifier.weight, model.classifier.weight)


def test_without_a_head_nothing_is_replaced():
    model = tiny_model("vit")
    config = type(model.config)(**model.config.to_dict() | label_fields(["a", "b"]))
    with pytest.raises(ValueError, match=r"classifier.weight \(3, "):
        fit_model(model, config, fit_head=False)


def test_a_teacher_is_matched_by_name(tmp_path):
    model = tiny_model("vit")
    source = saved(model, tmp_path)
    pixel_values = images(2, 3, 32, 32)
    teachers = [load_teacher(TeacherRecipe(pretrained=source), tiny_processor(), names)
                for names in (TRAINED, OTHER_ORDER)]  # fmt: skip
    expected = logits(model, pixel_values)
    order = [TRAINED.index(label) for label in OTHER_ORDER]
    torch.testing.assert_close(teachers[0](pixel_values), expected)
    torch.testing.assert_close(teachers[1](pixel_values), expected[:, order])
    with pytest.raises(ValueError, match=r"trained for other classes: 1 of the data's 3 classes .*'fox'.*'eel'"):
        load_teacher(TeacherRecipe(pretrained=source), tiny_processor(), ["cat", "dog", "fox"])
    with pytest.raises(ValueError, match="has 3 classes, the data have 2"):
        load_teacher(TeacherRecipe(pretrained=source), tiny_processor(), ["cat", "dog"])


def test_the_order_of_classes():
    known = {0: "a", 1: "b", 2: "c"}
    assert class_order(known, ["c", "a", "b"]) == [2, 0, 1]
    assert class_order(known, ["x", "y", "z"]) is None
    assert class_order({0: "LABEL_0", 1: "LABEL_1"}, ["a", "b"]) is None
    with pytest.raises(ValueError, match="1 of the data's 3 classes are unknown"):
        class_order(known, ["a", "b", "z"])
