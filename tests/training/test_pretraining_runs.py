"""Runs without labels through the Trainer: what a recipe asks for happens at the right step, and repeats exactly."""

import math

import pytest
import torch
import yaml
from transformers import AutoImageProcessor, AutoModel, AutoModelForPreTraining

from hf_vits.auto import PRETRAINING
from hf_vits.figures.features import draw_method
from hf_vits.pretraining.dino.modeling_dino import DINOForPreTraining
from hf_vits.pretraining.method import Column
from hf_vits.recipe import load_recipe
from hf_vits.training import tasks, train
from hf_vits.training.building import assemble_trainer, build_model
from hf_vits.training.examples.batches import SampleKey
from tests.support.paths import RECIPES, ROOT

from ..support.training import changed, history, losses
from .test_resume import kill_after, start

BACKBONE = {
    "image_size": 8,
    "patch_size": 2,
    "encoder_stride": 2,
    "num_channels": 1,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "drop_path_rate": 0.2,
}
HEAD = {"num_prototypes": 24, "head_hidden_size": 16, "head_bottleneck_size": 8, "train_magnitude": True}
MODELS = {
    "mae": {
        "system": "mae",
        "variant": "mae_vit_base_patch16",
        "config": {name: value for name, value in BACKBONE.items() if name != "encoder_stride"}
        | {
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 32,
        },
    },
    "milan": {
        "system": "milan",
        "variant": "mae_vit_base_patch16",
        "config": {
            "backbone_config": {name: value for name, value in BACKBONE.items() if name != "encoder_stride"},
            "target_config": {"model_type": "hf_vits_deit"} | BACKBONE,
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 32,
        },
    },
    "span": {"system": "span", "variant": "vit_small_patch16_full", "config": HEAD | {"backbone_config": BACKBONE}},
    "dino": {"system": "dino", "variant": "vit_small_patch16_full", "config": HEAD | {"backbone_config": BACKBONE}},
    "ibot": {
        "system": "ibot",
        "variant": "vit_small_patch16_full",
        "config": HEAD | {"num_patch_prototypes": 24, "backbone_config": BACKBONE},
    },
    "attmask": {
        "system": "attmask",
        "variant": "vit_small_patch16_full",
        "config": HEAD | {"num_patch_prototypes": 24, "backbone_config": BACKBONE},
    },
}
VIEWS = {"num_local": 2, "local_size": 4, "blur": [0.5, 0.1, 0.0], "global_scale": [0.4, 1], "local_scale": [0.2, 0.4]}
# Neither checkpoints nor evaluations on the way.
NOTHING_BESIDE = dict.fromkeys(["train__save_every", "train__evaluate_every", "neighbours"])
TEACHER = {"momentum": [0.9, 1.0], "temperature": [0.04, 0.07], "temperature_warmup": 2}


def tiny(method, directory, **changes):
    """A recipe of the digits for a method, whose steps take milliseconds, `changed`."""
    recipe = {
        "task": "pretraining",
        "model": MODELS[method] | {"processor": {"do_grayscale": True, "image_mean": [0.5], "image_std": [0.25]}},
        "data": {"source": "digits", "test_fraction": 0.2},
        "neighbours": {"number": 5, "bank": 200},
        "optimizer": {"learning_rate": 2e-3, "weight_decay": 0.04, "final_weight_decay": 0.4, "no_decay": []},
        "schedule": {"kind": "closed_cosine", "warmup": "3 steps"},
        "train": {
            "length": "12 steps",
            "batch_size": 32,
            "log_every": "1 step",
            "save_every": "5 steps",
            "evaluate_every": "6 steps",
            "max_grad_norm": 0.3,
            "clip_each": True,
        },
        "output": {"directory": str(directory)},
    }
    if method not in ("mae", "milan"):
        recipe |= {"views": VIEWS, "momentum_teacher": TEACHER}
    if method == "span":
        recipe["priors"] = {"statistic": "mean", "fractions": [0.2, 0.5]}
    if method == "ibot":
        recipe["masks"] = {}
    return changed(recipe, changes)


def trainer_of(recipe):
    recipe = load_recipe(recipe)
    task = tasks.load(recipe.task)
    splits = task.load_splits(recipe.data)
    model, processor = build_model(recipe.model, {}, task)
    return assemble_trainer(recipe, task, model, processor, splits)


@pytest.mark.parametrize("method", MODELS)
def test_a_run_ends_with_a_model_a_backbone_and_their_measure(tmp_path, method):
    results = train(tiny(method, tmp_path))
    assert results["steps"] == 12
    measured = results["test"]
    assert 0.1 < measured["knn_accuracy"] <= measured["knn_top5_accuracy"] <= 1
    assert measured["pixel_knn_accuracy"] > 0.8  # scans of digits are told by their pixels
    assert measured["untrained_knn_accuracy"] != measured["knn_accuracy"]
    evaluations = [entry for entry in history(tmp_path) if "eval_knn_accuracy" in entry]
    assert [entry["step"] for entry in evaluations] == [6, 12]

    model = AutoModelForPreTraining.from_pretrained(tmp_path).eval()
    backbone = AutoModel.from_pretrained(tmp_path / "backbone").eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "backbone")
    image = torch.rand(1, 8, 8)
    pixel_values = processor(images=image, do_rescale=False, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        features = [encoder(pixel_values).last_hidden_state for encoder in (backbone, model.export().eval())]
    assert torch.equal(*features)
    for step in (6, 12):
        assert (tmp_path / "pictures" / f"{step:06d}.png").stat().st_size > 5000
    card = (tmp_path / "README.md").read_text()
    assert "what_it_sees.png" in card
    assert "knn_accuracy" in card


@pytest.mark.parametrize("method", ["dino", "ibot", "attmask", "sit", "esvit"])
def test_features_soon_tell_more_than_those_of_the_untrained_backbone(method, tmp_path):
    """The small recipes on the embedded digits; at full length on their own data in tests/recipe_runs."""
    changes = {
        "data.source": "digits",
        "data.path": "null",
        "data.test_fraction": 0.2,
        "train.length": "30 steps",
        "train.batch_size": 32,
        "train.evaluate_every": "30 steps",
        "train.workers": 0,
        "schedule.warmup": "8 steps",
        "neighbours.bank": 500,
        "momentum_teacher.momentum": [0.95, 1.0],
        "output.directory": tmp_path,
    }
    overrides = [f"{key}={value}" for key, value in changes.items()]
    measured = train(RECIPES / f"fashion_mnist_{method}.yaml", overrides)["test"]
    assert measured["knn_accuracy"] > measured["untrained_knn_accuracy"] + 0.1


def test_mae_learns_to_paint(tmp_path):
    changes = {
        "train__length": "2 epochs",
        "train__clip_each": False,
        "train__max_grad_norm": None,
    }
    train(tiny("mae", tmp_path, **changes, **NOTHING_BESIDE))
    curve = losses(tmp_path)
    assert sum(curve[-10:]) / 10 < 0.5 * curve[0]


@pytest.mark.parametrize("method", MODELS)
def test_accumulation_follows_the_curve_of_whole_batches(tmp_path, method):
    curves = {}
    for parts in (1, 2):
        directory = tmp_path / str(parts)
        train(tiny(method, directory, train__accumulation=parts, train__length="6 steps", **NOTHING_BESIDE))
        curves[parts] = losses(directory)
    assert len(curves[1]) == 6
    assert curves[2] == pytest.approx(curves[1], abs=2e-5)


def test_a_killed_run_of_ibot_ends_where_a_whole_one_ends(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny("ibot", whole, train__length="15 steps", train__workers=1)))
    interrupted = start(recipe, f"output.directory={killed}")
    kill_after(interrupted, killed, 7)
    assert not (killed / "results.json").exists()
    train(recipe, [f"output.directory={killed}"])
    train(recipe)
    for name in ("model.safetensors", "backbone/model.safetensors", "results.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert losses(whole) == losses(killed)


def test_what_happens_at_each_step(tmp_path):
    """Rates, decay, temperature, momentum and the frozen layer, as the originals have them at every step."""
    total = 25
    trainer = trainer_of(
        tiny("ibot", tmp_path, train__length=f"{total} steps", train__batch_size=128, **NOTHING_BESIDE)
    )
    model, per_epoch = trainer.model, trainer.batches.batches_per_epoch
    assert per_epoch == 10
    seen = {"decay": [], "temperature": [], "patch_temperature": [], "moved": [], "momentum": []}
    following = model.update_teacher

    def update_teacher(momentum):
        group = next(group for group in trainer.optimizer.param_groups if group["weight_decay"])
        seen["decay"].append(group["weight_decay"])
        seen["temperature"].append(model.objective.teacher_temperature)
        seen["patch_temperature"].append(model.objective.teacher_patch_temperature)
        seen["moved"].append(model.student.head.last_layer.direction.detach().clone())
        seen["momentum"].append(momentum)
        following(momentum)

    model.update_teacher = update_teacher
    start_of_layer = model.student.head.last_layer.direction.detach().clone()
    trainer.train()

    def half_cosine(first, last, step):
        return last + (first - last) * (1 + math.cos(math.pi * step / total)) / 2

    steps = range(total)
    assert seen["decay"] == pytest.approx([half_cosine(0.04, 0.4, step) for step in steps])
    assert seen["momentum"] == pytest.approx([half_cosine(0.9, 1.0, step) for step in steps])
    expected = [0.04 if step < per_epoch else 0.07 for step in steps]
    assert seen["temperature"] == pytest.approx(expected)
    assert seen["patch_temperature"] == pytest.approx(expected)
    assert all(torch.equal(layer, start_of_layer) for layer in seen["moved"][:per_epoch])
    assert not torch.equal(seen["moved"][per_epoch], start_of_layer)
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates[:4] == pytest.approx([0, 1e-3, 2e-3, 2e-3])


def test_views_are_of_the_sizes_asked_for_and_repeat(tmp_path):
    trainer = trainer_of(tiny("ibot", tmp_path, masks={"ratios": [0.5], "spreads": [0.1], "first_epoch": 1}))
    key = SampleKey(index=3, seed=11, mix_seed=None, shared_seed=0, epoch=1)
    item, again = trainer.train_dataset[key], trainer.train_dataset[key]
    assert item["pixel_values"].shape == (2, 1, 8, 8)
    assert item["local_pixel_values"].shape == (2, 1, 4, 4)
    assert item.pop("seed") == again.pop("seed") == 11
    assert all(torch.equal(item[name], again[name]) for name in item)
    assert not torch.equal(*item["pixel_values"])
    assert item["bool_masked_pos"].shape == (2, 16)
    assert 0 < item["bool_masked_pos"].sum() <= 16
    assert not trainer.train_dataset[key._replace(epoch=0)]["bool_masked_pos"].any()
    other = trainer.train_dataset[key._replace(seed=12)]
    assert not torch.equal(other["pixel_values"], item["pixel_values"])


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("dino", {"views": None}, "DINOForPreTraining needs section `views`"),
        ("mae", {"views": {}}, "MAEForPreTraining takes no section `views`"),
        ("ibot", {"masks": None}, "IBOTForPreTraining needs section `masks`"),
        ("attmask", {"masks": {}}, "IBOTForPreTraining takes no section `masks`"),
        ("span", {"priors": None}, "SPANForPreTraining needs section `priors`"),
        ("dino", {"priors": {"statistic": "mean"}}, "DINOForPreTraining takes no section `priors`"),
        ("ibot", {"masks": {"ratios": [0.5]}}, r"masks.spreads .* \[0.0, 0.2\] for \[0.5\]"),
        ("dino", {"momentum_teacher": None}, "needs section `momentum_teacher`"),
        ("dino", {"views": {"num_global": 1}}, "two or more are needed, got 1"),
        ("dino", {"views": {"jitter": [0.4]}}, r"views.jitter is four numbers.*\[0.4\]"),
        ("dino", {"views": {"blur": [1.0, 0.5]}}, r"views.blur are three probabilities.*\[1.0, 0.5\]"),
        ("dino", {"momentum_teacher": {"momentum": [0.9, 1.1]}}, "momentum is at most 1"),
        ("dino", {"train__max_grad_norm": None}, "clip_each needs train.max_grad_norm"),
        ("dino", {"model__config": {"backbone_config": {"hiden_size": 16}}}, "hiden_size"),
    ],
)
def test_recipes_that_do_not_fit_their_method_are_refused(tmp_path, method, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(tiny(method, tmp_path, **changes))


def test_a_method_brings_its_collator_views_and_picture(tmp_path, monkeypatch):
    """What a new method would declare reaches the run without a word about it in training or figures."""

    def collator(self):
        return lambda samples: {"pixel_values": torch.stack([sample["pixel_values"].flip(-1) for sample in samples])}

    def check_number_of_views(self, num_global, num_local):
        if num_local:
            raise ValueError("this method takes no local views")

    def picture(self, pixel_values):
        return [Column("upside down", pixel_values.flip(-2))]

    monkeypatch.setattr(DINOForPreTraining, "collator", collator)
    monkeypatch.setattr(DINOForPreTraining, "picture", picture)
    monkeypatch.setattr(DINOForPreTraining, "check_number_of_views", check_number_of_views)
    with pytest.raises(ValueError, match="no local views"):
        trainer_of(tiny("dino", tmp_path))
    trainer = trainer_of(tiny("dino", tmp_path, views__num_local=0))
    key = SampleKey(index=3, seed=11, mix_seed=None, shared_seed=0, epoch=1)
    sample = trainer.train_dataset[key]
    batch = trainer.data_collator([sample])
    assert batch.keys() == {"pixel_values"}
    assert torch.equal(batch["pixel_values"][0], sample["pixel_values"].flip(-1))
    trainer.model.train()
    draw_method(trainer.model, trainer.shown, trainer.processor, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
    assert trainer.model.training


def test_training_and_figures_know_no_method_by_name():
    """A new method must not need edits there; `linear_probe` is the classifier on top of any of them."""
    names = {method.folder for method in PRETRAINING}
    for room in ("training", "figures"):
        for path in (ROOT / "src" / "hf_vits" / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            known = [name for name in names if f"pretraining.{name}" in text or f"hf_vits_{name}" in text]
            assert not known, f"{path} knows {known}"
