"""Runs whose files are damaged or missing, and disks that are full: errors name the file, nothing is half written."""

import errno
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from hf_vits.files import reading
from hf_vits.recipe import load_recipe
from hf_vits.training import tasks, train
from hf_vits.training.building import assemble_trainer, build_model
from hf_vits.training.report import output

from ..support.training import tiny_recipe


def recipe_in(directory: Path) -> dict:
    return tiny_recipe(
        directory,
        train__length="2 steps",
        train__save_every="1 step",
        train__evaluate_every=None,
        train__batch_size=8,
        schedule={},
    )


def trainer_in(directory: Path):
    recipe = load_recipe(recipe_in(directory))
    task = tasks.load(recipe.task)
    splits = task.load_splits(recipe.data)
    model, processor = build_model(recipe.model, task.head_fields(recipe, splits), task)
    return assemble_trainer(recipe, task, model, processor, splits)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return the checkpoint of a run's first step."""
    directory = tmp_path_factory.mktemp("run")
    trainer = trainer_in(directory)
    trainer.args.max_steps = 1
    trainer.train()
    return Path(output.last_checkpoint(directory))


@pytest.fixture(scope="module")
def resuming(tmp_path_factory):
    """Return a trainer that has not trained."""
    return trainer_in(tmp_path_factory.mktemp("resuming"))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("scheduler.pt", None, FileNotFoundError, "checkpoint-1 lacks scheduler.pt, so the run cannot go on: remove"),
        ("optimizer.pt", None, FileNotFoundError, "checkpoint-1 lacks optimizer.pt"),
        ("averaged_weights.pt", None, FileNotFoundError, "checkpoint-1 lacks averaged_weights.pt"),
        ("trainer_state.json", None, FileNotFoundError, "checkpoint-1 lacks trainer_state.json"),
        ("trainer_state.json", b"{", ValueError, "trainer_state.json is damaged, it is not JSON"),
        ("trainer_state.json", b"\xff", ValueError, "trainer_state.json is damaged, it is not JSON"),
        ("trainer_state.json", b"[" * 100_000, ValueError, "trainer_state.json is damaged, it is not JSON"),
        ("trainer_state.json", b"[]", ValueError, "trainer_state.json is damaged: expected a JSON object"),
        ("trainer_state.json", b'{"global_step": "1"}', ValueError, "trainer_state.json is damaged: global_step"),
        ("model.safetensors", b"\0" * 50, OSError, "model.safetensors is damaged"),
        ("optimizer.pt", b"\x80\x02", OSError, "optimizer.pt is damaged"),
        ("scheduler.pt", b"", OSError, "scheduler.pt is damaged"),
        ("averaged_weights.pt", b"PK", OSError, "averaged_weights.pt is damaged"),
        ("rng_state.pth", b"PK", OSError, "rng_state.pth"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_its_file(checkpoint, resuming, tmp_path, name, content, error, message):
    copy = Path(shutil.copytree(checkpoint, tmp_path / checkpoint.name))
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_bytes(content)
    with pytest.raises(error, match=message):
        resuming.train(resume_from_checkpoint=str(copy))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results.json", "{", r"results\.json is damaged, it is not JSON"),
        ("results.json", "3", r"results\.json is damaged: expected a JSON object"),
        ("recipe.yaml", "a: [", r"recipe\.yaml is not valid YAML"),
        ("recipe.yaml", "- a", r"recipe\.yaml is damaged: expected keys and values"),
    ],
)
def test_a_damaged_folder_of_a_run_is_refused_by_its_file(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    (tmp_path / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    with pytest.raises(ValueError, match=message):
        train(recipe_in(tmp_path))


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/0"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["disk", "quota", "torch", "safetensors"],
)
def test_a_full_disk_leaves_no_half_checkpoint(tmp_path, monkeypatch, full):
    def save(*arguments, **options):
        raise full

    trainer = trainer_in(tmp_path)
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match=f"no space left, .*{re.escape(str(tmp_path))}.* is written") as refused:
        trainer.train()
    assert refused.value.errno == errno.ENOSPC
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_full_disk_leaves_a_text_file_as_it_was(tmp_path, monkeypatch):
    output.write_results(tmp_path, {"steps": 1})
    whole = (tmp_path / "results.json").read_bytes()

    def write_text(path, text, **options):
        path.write_bytes(text[:5].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(OSError, match=r"no space left, .*results\.json is written"):
        output.write_results(tmp_path, {"steps": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_bytes() == whole


def test_errors_that_are_no_damage_keep_their_type(tmp_path):
    for error in (
        MemoryError("m"),
        FloatingPointError("f"),
        FileNotFoundError(f"{tmp_path} is gone"),
        ImportError("i"),
    ):
        with pytest.raises(type(error), match=f"^{error}$"), reading(tmp_path):
            raise error
    with pytest.raises(ValueError, match=f"{tmp_path.name}: size is odd"), reading(tmp_path):
        raise ValueError("size is odd")
