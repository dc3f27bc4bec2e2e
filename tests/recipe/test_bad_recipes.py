"""Recipes that cannot be meant: refused early, naming the file, key and value."""

import re
from dataclasses import replace

import pytest
import torch

from hf_vits.optim.optimizers import build_optimizer
from hf_vits.parsing import parse_yaml
from hf_vits.recipe import OptimizerRecipe, load_recipe
from hf_vits.training import tasks
from hf_vits.training.building import build_model
from hf_vits.training.classification import label_fields
from hf_vits.training.examples.batches import GlobalBatches

from ..support.training import tiny_recipe

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(b"train: {seed: \xff}", "codec can't decode", id="no UTF-8"),
        pytest.param(b"[" * 2000, "more than 50 levels", id="brackets"),
        pytest.param(b"a: " + b"[" * 60 + b"]" * 60, "more than 50 levels", id="deep"),
        pytest.param(b"train: {seed: " + b"9" * 5000 + b"}", "digits", id="digits"),
        pytest.param(b"train: {seed: 0x" + b"f" * 5000 + b"}", "more than 300 digits", id="hexadecimal digits"),
        pytest.param(b"data: 2001-13-01", "month", id="date"),
        pytest.param(b"train: !!bool x", "a tag that does not suit its value", id="tag"),
        pytest.param(b"train: {seed: 1, seed: 2}", "key 'seed' twice", id="key twice"),
        pytest.param(b"train: &a [*a]", "more than 50 levels", id="contains itself"),
        pytest.param(BOMB.encode(), "100000 values", id="aliases of aliases"),
        pytest.param(b"", "expected keys and values, got None", id="empty"),
    ],
)
def test_text_that_is_no_recipe_is_refused_with_its_file(tmp_path, text, reason):
    path = tmp_path / "odd.yaml"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"odd\.yaml.*{reason}") as refused:
        load_recipe(path)
    assert len(str(refused.value)) < 1000
    with pytest.raises(ValueError, match=r"odd\.yaml"):
        load_recipe(path, ["train.seed=1"])


def test_merged_keys_may_be_given_again():
    text = "a: &a {seed: 1, size: 2}\nb: {<<: *a, seed: 3}\n"
    assert parse_yaml(text, "text") == {"a": {"seed": 1, "size": 2}, "b": {"seed": 3, "size": 2}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.seed=4294967296", "'seed'.*at most 4294967295, got 4294967296"),
        ("data.split_seed=-1", "'split_seed'.*must not be negative, got -1"),
        ("optimizer.learning_rate=.nan", "'learning_rate'.*must be finite, got nan"),
        ("optimizer.learning_rate=.inf", "'learning_rate'.*must be finite, got inf"),
        ("optimizer.weight_decay=.nan", "'weight_decay'.*must be finite, got nan"),
        ("optimizer.no_decay=['(']", r"optimizer.no_decay: '\(' is no regular expression"),
        ("optimizer.no_decay=['a{99999999999}']", "optimizer.no_decay: .* is no regular expression"),
        ("optimizer.learning_rate=1" + "0" * 400, "more than 300 digits"),
        ("train.length=1e400 steps", "'length'.*at most 1e.12 epochs or steps, got '1e400 steps'"),
        ("augmentation.affine.shear=.inf", "'shear'.*must be finite, got inf"),
        ("augmentation.affine.degrees=-1", "'degrees'.*must not be negative"),
        ("augmentation.randaugment.ops=4294967295", "randaugment.ops must be at most 100"),
        ("augmentation.crop_padding=99999", "augmentation.crop_padding must be at most 16384"),
        ("augmentation.short_side=[0, 5]", "augmentation.short_side must lie between 1 and 16384"),
        ("augmentation.crop_scale=[.nan, 1]", "augmentation.crop_scale is .lowest, highest., got"),
        ("augmentation={crop_scale: [0.5, 1], crop_ratio: [0, 1]}", "augmentation.crop_ratio must lie between 0.01"),
        ("views.global_scale=[0.5, 2]", "views.global_scale must lie between"),
        ("views.num_local=99999", "views.num_local must be at most 1000"),
        ("views.jitter=[.nan, 0, 0, 0]", "views.jitter is four numbers"),
        ("masks.ratios=[2.0, 0.3]", "masks.ratios and masks.spreads lie between 0 and 1"),
        ("momentum_teacher.temperature=[0, 1]", "momentum_teacher.temperature and patch_temperature are above 0"),
        ("momentum_teacher.momentum=[.nan, 1]", "momentum_teacher.momentum is .first, last."),
    ],
)
def test_values_that_no_run_can_have_are_named(tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(tiny_recipe(tmp_path), [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.config.patch_size=3", "model.config: CctConfig has no field patch_size"),  # a property
        ("model.config.hidden_size=33", "model.config: .*hidden_size must be a multiple of num_attention_heads"),
        ("model.variant=deit", "model.variant: cct has no 'deit'"),
        ("model.processor.image_mean=null", "model.processor: do_normalize=True needs image_mean"),
        ("model.processor.image_std=0.0", "model.processor: image_std divides the pixels and must be above 0"),
        ("model.processor.resample=null", "model.processor: resample must be"),
        ("model.processor.crop_size=wide", "model.processor: .*crop_size"),
    ],
)
def test_models_that_cannot_be_built_are_refused_by_their_section(tmp_path, override, message):
    recipe = load_recipe(tiny_recipe(tmp_path), [override])
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_model(replace(recipe.model, checkpoint=None), label_fields(["a", "b"]), tasks.load(recipe.task))


@pytest.mark.parametrize("options", [{"betas": ""}, {"betas": [2, 3]}, {"eps": "a"}, {"unknown": 1}])
def test_options_that_an_optimizer_does_not_allow_are_named(options):
    recipe, model = OptimizerRecipe(learning_rate=0.1, options=options), torch.nn.Linear(2, 2)
    model.base_model_prefix = "model"
    with pytest.raises(ValueError, match=re.escape(f"optimizer.options {options} do not suit")):
        build_optimizer(model, recipe)


def test_repeats_beyond_the_samples_repeat_the_first():
    few, many = (list(GlobalBatches(8, 4, seed=0, repeats=repeats)) for repeats in (8, 2**32))
    assert few == many
    assert len({key.index for batch in many for key in batch}) == 1
