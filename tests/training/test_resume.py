"""A run that is killed and started again ends where an uninterrupted one ends, to the last bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hf_vits.training import train

from ..support.training import history, losses, tiny_recipe


def start(recipe: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "hf_vits.training", str(recipe), *overrides]
    return subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill_after(process: subprocess.Popen, directory: Path, steps: int) -> None:
    """SIGKILL the run and its workers once it has logged `steps` steps."""
    deadline = time.monotonic() + 240
    log = directory / "history.jsonl"
    while not log.is_file() or log.read_text().count('"loss"') < steps:
        assert process.poll() is None, process.communicate()[0].decode()[-3000:]
        assert time.monotonic() < deadline, "the run did not get so far"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_at_a_random_step(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(whole, train__length="30 steps", train__workers=1)))
    step = random.randint(6, 25)

    kill_after(start(recipe, f"output.directory={killed}"), killed, step)
    assert not (killed / "results.json").exists()
    assert list((killed / "checkpoints").glob("checkpoint-*")), f"no checkpoint before step {step}"
    # What a kill in the middle of writing a checkpoint leaves behind.
    (killed / "checkpoints" / "incomplete" / "checkpoint-29").mkdir(parents=True, exist_ok=True)
    (killed / "checkpoints" / "incomplete" / "checkpoint-29" / "model.safetensors").write_bytes(b"half")
    (killed / ".saving-abcdefgh" / "content").mkdir(parents=True)
    train(recipe, [f"output.directory={killed}"])
    train(recipe)

    for name in ("model.safetensors", "config.json", "preprocessor_config.json", "confusion_matrix.csv"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), f"{name}, killed at step {step}"
    assert losses(whole) == losses(killed)
    assert [entry["step"] for entry in history(killed) if "loss" in entry] == list(range(1, 31))
    assert (whole / "results.json").read_text() == (killed / "results.json").read_text()
    assert {path.name for path in whole.rglob("*")} == {path.name for path in killed.rglob("*")}


def test_a_directory_belongs_to_one_recipe(tmp_path):
    recipe = tiny_recipe(tmp_path, train__length="2 steps", schedule__warmup="1 step")
    results = train(recipe)
    before = (tmp_path / "model.safetensors").stat().st_mtime_ns
    assert train(recipe) == results
    assert train(recipe, ["train.log_every=2steps", "train.workers=0"]) == results
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"another recipe \(optimizer.learning_rate: 0.003 there, 0.1 here\)"):
        train(recipe, ["optimizer.learning_rate=0.1"])


def test_a_run_killed_between_training_and_results_repeats_its_end(tmp_path):
    recipe = tiny_recipe(tmp_path, train__length="6 steps")
    results = train(recipe)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "results.json").unlink()
    (tmp_path / "model.safetensors").write_bytes(weights[:100])
    assert train(recipe) == results
    assert (tmp_path / "model.safetensors").read_bytes() == weights
