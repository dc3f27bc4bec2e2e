"""Streams of tasks: every method and memory trains, a cut-off run goes on exactly, odd settings are refused."""

import argparse
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, TrainerCallback

from hf_vits.cli.check import run as check
from hf_vits.data.checks import UnreadableInput, decoding, name_of
from hf_vits.recipe import load_recipe
from hf_vits.training import train
from hf_vits.training.tasks.continual_image_classification import TASK

FIELDS = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
STEPS = 8
STREAMS = {
    "naive": {},
    "joint": {"method": "joint"},
    "lwf": {"method": "lwf"},
    "attention": {"method": "attention", "pooling": "width"},
    "functional": {"method": "functional", "symmetric": True, "pod": True},
    "ewc": {"method": "ewc", "alpha": None, "sampling": "multinomial"},
    "path_integral": {"method": "path_integral"},
    "ring": {"memory": 20, "memory_kind": "ring"},
    "reservoir": {"memory": 20},
    "herding": {"memory": 20, "memory_kind": "herding"},
}


def recipe(directory, **stream) -> dict:
    return {
        "task": "continual-image-classification",
        "model": {
            "system": "vit",
            "variant": "ViT-Ti_16",
            "config": {**FIELDS, "image_size": 8, "patch_size": 4, "pooling": "token"},
        },
        "data": {"source": "digits", "test_fraction": 0.1},
        "continual": {"tasks": 2, "order_seed": 1, **stream},
        "optimizer": {"learning_rate": 0.003, "weight_decay": 0.0},
        "train": {"length": f"{STEPS} steps", "batch_size": 64, "log_every": "1 step", "save_every": "3 steps"},
        "output": {"directory": str(directory)},
    }


TURNED = {"upright": {}, "turned": {"rotation": 90}}


def domains(directory, **stream) -> dict:
    made = recipe(directory)
    made["continual"] = {"method": "naive", **stream}
    made["data"]["domains"] = TURNED
    return made


class Cut(Exception):
    """What ends a run in the middle."""


class CutAt(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Cut


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_learned_and_measured(tmp_path, name):
    results = train(recipe(tmp_path, **STREAMS[name]))["test"]
    stream = json.loads((tmp_path / "tasks.json").read_text())
    assert [len(names) for names in stream["tasks"]] == [5, 5]
    for kind in ("aware", "agnostic"):
        (first, _), last = stream[f"task_{kind}_accuracy"]
        assert results[f"task_{kind}_average"] == pytest.approx(sum(last) / 2)
        assert results[f"task_{kind}_forgetting"] == pytest.approx(first - last[0])
    assert {path.name for path in tmp_path.glob("*.png")} >= {"accuracy_matrix.png", "forgetting.png"}
    model = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert model.config.num_labels == 10


@pytest.mark.parametrize("name", ["functional", "herding"])
def test_a_run_cut_off_in_the_second_task_ends_as_a_whole_one(tmp_path, name):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = train(recipe(whole, **STREAMS[name]))
    with pytest.raises(Cut):
        train(recipe(cut, **STREAMS[name]), callbacks=[CutAt(STEPS - 1)])
    found = train(recipe(cut, **STREAMS[name]))
    assert found["test"] == pytest.approx(expected["test"])
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (cut, whole))
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value)


@pytest.mark.parametrize("name", ["lwf", "functional", "herding"])
def test_a_stream_of_domains_keeps_all_classes_in_one_head(tmp_path, name):
    stream = {name: value for name, value in STREAMS[name].items() if name != "pod"}
    results = train(domains(tmp_path, **stream))
    assert results["train_images"] == 2 * 1455
    found = json.loads((tmp_path / "tasks.json").read_text())
    assert found["tasks"] == [["upright"], ["turned"]]
    assert found["task_aware_accuracy"] == found["task_agnostic_accuracy"]
    last = found["task_agnostic_accuracy"][-1]
    # Both domains have as many test images.
    assert sum(last) / 2 == pytest.approx(results["test"]["accuracy"])
    assert AutoModelForImageClassification.from_pretrained(tmp_path).config.num_labels == 10


def test_images_of_a_domain_are_turned():
    loaded = TASK.load_splits(load_recipe(domains("unused")).data)
    upright, turned = (np.flatnonzero(loaded.train.domains == domain)[0] for domain in (0, 1))
    images = [np.asarray(loaded.train.inputs[index]) for index in (upright, turned)]
    np.testing.assert_array_equal(np.rot90(images[0]), images[1])
    assert loaded.train.labels[upright] == loaded.train.labels[turned]


def test_domains_of_other_classes_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{number}.png")
    made = domains(tmp_path)
    made["data"]["domains"] = {"scans": {}, "photographs": {"source": "folder", "path": str(tmp_path)}}
    with pytest.raises(ValueError, match=r"data.domains.photographs: all domains need the same classes .* this has"):
        train(made)


def photographs(folder, seed: int) -> None:
    """Write 12 images of each of two classes, the first three of the last class damaged."""
    generator = np.random.default_rng(seed)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / name / f"{number}.png")
    for number in range(3):
        (folder / "b" / f"{number}.png").write_bytes(b"no image")


@pytest.mark.parametrize("is_of_domains", [False, True])
def test_damaged_files_are_named_or_left_out_of_their_task(tmp_path, is_of_domains):
    """Another input in the place of one would be of another task."""
    for seed, name in enumerate(("day", "night")):
        photographs(tmp_path / name, seed)
    made = domains(tmp_path / "run") if is_of_domains else recipe(tmp_path / "run")
    made["data"] = {"source": "folder", "path": str(tmp_path / "day"), "test_fraction": 0.2}
    made["train"] |= {"batch_size": 4, "length": "8 steps"}
    if is_of_domains:
        made["data"]["domains"] = {name: {"path": str(tmp_path / name)} for name in ("day", "night")}
    splits = TASK.load_splits(load_recipe(made).data)
    names = [name_of(splits.train.inputs, index) for index in range(len(splits.train))]
    index = next(index for index, name in enumerate(names) if re.search(r"day/b/[0-2].png$", name))
    with (
        pytest.raises(UnreadableInput, match=r"day/b/[0-2]\.png cannot be read"),
        decoding(splits.train.inputs, index),
    ):
        splits.train.inputs[index]
    made["data"]["skip_unreadable"] = True
    (tmp_path / "recipe.yaml").write_text(json.dumps(made))
    for _ in range(2):  # the second time by what is kept of the first
        checked = check(argparse.Namespace(data=str(tmp_path / "recipe.yaml")))
        assert (checked["images"], len(checked["unreadable"])) == (24 * (1 + is_of_domains), 3 * (1 + is_of_domains))
    results = train(made)
    kept = 21 * (1 + is_of_domains)
    assert results["train_images"] + results["validation_images"] + results["test_images"] == kept
    assert not (tmp_path / "run" / "unreadable.jsonl").exists()


@pytest.mark.parametrize(
    ("stream", "data", "message"),
    [
        ({"tasks": 2}, {}, "tasks, first, order, order_seed, pod and per_head are for streams of classes"),
        ({}, {"domains": {"one": {}}}, "two domains or more, got one"),
        ({}, {"domains": {}}, "continual.tasks: a stream of classes needs the number of its tasks"),
        ({}, {"domains": {"one": {}, "two": {"angle": 3}}}, "there is no key 'angle'"),
    ],
)
def test_odd_domains_are_refused(tmp_path, stream, data, message):
    made = domains(tmp_path, **stream)
    made["data"] |= data
    with pytest.raises(ValueError, match=message):
        train(made)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ({"tasks": 11}, "10 classes do not suffice for 11 tasks"),
        ({"order": ["0", "0", "1"]}, "continual.order must name every class"),
        ({"memory": 10**6}, "continual.memory: 1000000 is larger than the data"),
        ({"method": "joint", "memory": 5}, "continual.memory must be 0"),
        ({"method": "best"}, "method"),
    ],
)
def test_odd_streams_are_refused(tmp_path, stream, message):
    with pytest.raises(ValueError, match=message):
        train(recipe(tmp_path, **stream))
