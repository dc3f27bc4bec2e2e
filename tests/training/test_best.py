"""The best weights, early stopping, longer runs, folders that a failed start left, and the objects of a run."""

import json

import pytest
import torch
from transformers import AutoModelForImageClassification, TrainerCallback

from hf_vits.training import build_trainer, train
from hf_vits.training.loop.best import has_stopped, is_better

from ..support.training import history, tiny_recipe

QUICK = {"train__evaluate_every": "1 step", "train__save_every": "2 steps", "schedule__warmup": "0 steps"}


class SeenWeights(TrainerCallback):
    """Keeps a weight at each evaluation."""

    def __init__(self):
        self.weights = {}

    def on_log(self, args, state, control, model=None, logs=None, **kwargs):
        if "eval_accuracy" in logs:
            self.weights[state.global_step] = model.classifier.weight.detach().clone()


def test_the_best_weights_become_the_model(tmp_path, capsys):
    recipe = tiny_recipe(tmp_path, **QUICK, train__length="4 steps", train__use_ema=False, output__best="loss")
    recipe["optimizer"]["learning_rate"] = 3.0  # so that later weights are worse
    seen = SeenWeights()
    results = train(recipe, callbacks=[seen])
    losses = {entry["step"]: entry["eval_loss"] for entry in history(tmp_path) if "eval_loss" in entry}
    best = min(losses, key=losses.get)
    assert results["best_step"] == best < 4, losses
    model = AutoModelForImageClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(model.classifier.weight, seen.weights[best], rtol=0, atol=0)
    assert "resuming" not in capsys.readouterr().err


class EveryWeight(TrainerCallback):
    """Keeps the weight of training before the first step and after each."""

    def __init__(self):
        self.weights = []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.on_step_end(args, state, control, model=model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append(model.classifier.weight.detach().clone())


def test_the_best_average_becomes_the_model(tmp_path):
    recipe = tiny_recipe(tmp_path, **QUICK, train__length="4 steps", train__ema_decay=0.5, output__best="loss")
    recipe["optimizer"]["learning_rate"] = 3.0
    seen = EveryWeight()
    results = train(recipe, callbacks=[seen])
    losses = {entry["step"]: entry["eval_loss"] for entry in history(tmp_path) if "eval_loss" in entry}
    best = min(losses, key=losses.get)
    assert results["best_step"] == best < 4, losses
    average = seen.weights[0]
    for weight in seen.weights[1 : best + 1]:
        average = average.lerp(weight, 0.5)
    saved = AutoModelForImageClassification.from_pretrained(tmp_path).classifier.weight
    torch.testing.assert_close(saved, average)
    assert not torch.allclose(saved, seen.weights[best])


def test_early_stopping_ends_a_run_and_keeps_it_ended(tmp_path):
    recipe = tiny_recipe(tmp_path, **QUICK, train__length="9 steps", train__use_ema=False, output__best="loss")
    recipe["optimizer"]["learning_rate"] = 3.0
    recipe["train"]["early_stopping"] = 2
    results = train(recipe)
    assert results["steps"] == results["best_step"] + 2 < 9
    (tmp_path / "results.json").unlink()
    assert train(recipe) == results


def test_when_a_run_no_longer_gets_better():
    log = [{"eval_accuracy": value} for value in (0.5, 0.7, 0.6, 0.7)] + [{"loss": 1.0}]
    assert has_stopped(log, "accuracy", 2)
    assert not has_stopped(log, "accuracy", 3)
    assert not has_stopped(log[:3], "accuracy", 2)
    assert is_better("word_error_rate", 0.1, 0.2)
    assert is_better("accuracy", 0.2, 0.1)


def test_an_unknown_metric_names_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"no exactness, only .*accuracy"):
        train(tiny_recipe(tmp_path, **QUICK, train__length="1 step", output__best="exactness"))


def test_a_longer_run_goes_on(tmp_path, capsys):
    constant = QUICK | {"schedule__kind": "constant", "augmentation__mix_until": "2 steps"}
    whole = tiny_recipe(tmp_path / "whole", **constant, train__length="4 steps")
    grown = tiny_recipe(tmp_path / "grown", **constant, train__length="2 steps")
    train(whole)
    assert train(grown)["steps"] == 2
    capsys.readouterr()
    assert train(grown, ["train.length=4 steps"])["steps"] == 4
    assert "resuming from step 2 of 4" in capsys.readouterr().err
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "grown"))
    assert first == second
    with pytest.raises(ValueError, match=r"train.length: 4 steps there, 3 steps here.*longer one in the same unit"):
        train(grown, ["train.length=3 steps"])


def test_a_finished_run_without_checkpoints_cannot_go_on(tmp_path):
    recipe = tiny_recipe(tmp_path, **QUICK | {"train__save_every": None}, train__length="1 step")
    train(recipe)
    with pytest.raises(ValueError, match="finished run without a checkpoint"):
        train(recipe, ["train.length=2 steps"])


def test_a_start_that_saved_nothing_leaves_its_folder_free(tmp_path):
    recipe = tiny_recipe(tmp_path, **QUICK, train__length="1 step")

    class Broken(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        train(recipe, callbacks=[Broken()])
    assert (tmp_path / "recipe.yaml").is_file()
    results = train(recipe, ["optimizer.learning_rate=0.1"])
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_the_objects_of_a_run(tmp_path):
    trainer = build_trainer(tiny_recipe(tmp_path, **QUICK), ["train.length=1 step"])
    assert trainer.args.max_steps == 1
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] >= 0
    assert trainer.processor(torch.zeros(1, 1, 8, 8), return_tensors="pt")["pixel_values"].shape[-1] == 16


def test_trackers_are_checked_early(tmp_path):
    with pytest.raises(ValueError, match=r"train\.report_to: 'tensorbord' is none of .*tensorboard"):
        build_trainer(tiny_recipe(tmp_path, train__report_to=["tensorbord"]))
    with pytest.raises(ImportError, match=r"train\.report_to: clearml is not installed"):
        build_trainer(tiny_recipe(tmp_path, train__report_to=["clearml"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output__best": "accuracy", "train__evaluate_every": None}, "output.best chooses among evaluations"),
        ({"train__early_stopping": 2}, "train.early_stopping needs output.best"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        build_trainer(tiny_recipe(tmp_path, **changes))
