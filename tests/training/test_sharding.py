"""Weights, gradients and optimizer state divided between two processes: the loss curves of one that has all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForImageClassification, AutoModelForPreTraining

from hf_vits.training import train

from ..support.paths import ROOT
from ..support.training import history, losses, tiny_recipe
from .test_pretraining_runs import tiny

STEPS, MIDDLE = 6, 3
COMMON = {"train__length": f"{STEPS} steps", "train__save_every": f"{MIDDLE} steps", "output__keep_checkpoints": 9}


def recipes(folder: Path) -> dict[str, dict]:
    """{name: recipe} of runs, not sharded: EMA, accumulation and checkpointed layers; a teacher; LAMB in bf16."""
    common = COMMON | {"train__evaluate_every": f"{STEPS} steps"}
    thrifty = {"train__accumulation": 2, "train__activation_checkpointing": True, "train__max_grad_norm": 0.5}
    optimizer = {"name": "lamb", "learning_rate": 0.003, "weight_decay": 0.05}
    return {
        "classification": tiny_recipe(folder / "classification", **common, **thrifty, output__best="loss"),
        "dino": tiny("dino", folder / "dino", **common),
        "lamb": tiny_recipe(
            folder / "lamb", **common | {"train__save_every": None}, optimizer=optimizer, train__precision="bf16"
        ),
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Folder of the runs by this process, with all their checkpoints."""
    folder = tmp_path_factory.mktemp("alone")
    for recipe in recipes(folder).values():
        train(recipe)
    return folder


@pytest.fixture(scope="module")
def two(alone, tmp_path_factory) -> Path:
    """Folder of the same runs, sharded, by two processes started once for all; `resumed`: by one up to the middle."""
    folder = tmp_path_factory.mktemp("two")
    runs = recipes(folder)
    runs["resumed"] = runs["classification"] | {
        "output": runs["classification"]["output"] | {"directory": str(folder / "resumed")}
    }
    half_of(alone / "classification", folder / "resumed")
    files = [folder / f"{name}.yaml" for name in runs]
    for file, recipe in zip(files, runs.values(), strict=True):
        recipe["train"]["sharding"] = "full"
        file.write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.support.train_all", *map(str, files)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=550)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return folder


def half_of(run: Path, directory: Path) -> None:
    """Copy a run as it was at the checkpoint in its middle."""
    directory.mkdir()
    shutil.copy(run / "recipe.yaml", directory)
    shutil.copytree(run / "checkpoints", directory / "checkpoints", ignore=shutil.ignore_patterns(f"*-{STEPS}"))


@pytest.mark.parametrize("name", ["classification", "dino", "lamb"])
def test_each_process_holds_half(two, name):
    for process in range(2):
        parts = json.loads((two / name / f"parts-{process}.json").read_text())
        assert parts["wrapper"].startswith("FSDP")
        assert parts["whole"] == []
        assert parts["fraction"] == pytest.approx(0.5, abs=0.05)
        assert parts["states"]
        assert not parts["whole_states"]


@pytest.mark.parametrize("name", ["classification", "dino", "resumed"])
def test_sharded_processes_follow_the_curve_of_one(alone, two, name):
    whole, sharded = alone / name.replace("resumed", "classification"), two / name
    assert len(losses(sharded)) == STEPS
    assert losses(sharded) == pytest.approx(losses(whole), abs=1e-4)
    for ours, theirs in zip(norms(whole), norms(sharded), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3)
    ours, theirs = (load_file(run / "model.safetensors") for run in (whole, sharded))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, atol=1e-3, rtol=1e-3)


def norms(run: Path) -> list[float]:
    return [entry["grad_norm"] for entry in history(run) if "grad_norm" in entry]


def test_sharded_processes_follow_the_curve_of_one_in_bf16(alone, two):
    assert losses(two / "lamb") == pytest.approx(losses(alone / "lamb"), abs=2e-2)


@pytest.mark.parametrize("name", ["classification", "dino"])
def test_one_process_goes_on_from_a_sharded_checkpoint(alone, two, tmp_path, name):
    half_of(two / name, tmp_path / name)
    results = train(recipes(tmp_path)[name])
    assert results["processes"] == 1
    assert losses(tmp_path / name) == pytest.approx(losses(alone / name), abs=1e-4)


def test_a_checkpoint_has_the_files_of_one_that_is_not_sharded(alone, two):
    for name in ("classification", "dino"):
        ours, theirs = (
            {file.name for file in (run / name / "checkpoints" / f"checkpoint-{STEPS}").iterdir()}
            for run in (alone, two)
        )
        assert theirs - ours == {"rng_state_0.pth", "rng_state_1.pth"}
        assert ours - theirs == {"rng_state.pth"}


def test_a_sharded_run_ends_with_one_file_that_loads(two):
    assert len(list((two / "classification").glob("*.safetensors"))) == 1
    model = AutoModelForImageClassification.from_pretrained(two / "classification")
    assert type(model).__name__ == "CctForImageClassification"
    assert not AutoModelForPreTraining.from_pretrained(two / "dino").teacher.head.mlp[0].weight.isnan().any()
    assert AutoModel.from_pretrained(two / "dino" / "backbone").config.hidden_size == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "this run has one: start it with"),
        ({"train__sharding": "half"}, r"'sharding' expected one of \('none', 'full'\), got half"),
        ({"optimizer__name": "adafactor"}, "does not divide the factored state"),
    ],
)
def test_sharding_that_is_not_possible_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(tiny_recipe(tmp_path, **{"train__sharding": "full"} | changes))
