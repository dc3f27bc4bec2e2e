"""Streams of tasks: every method and memory trains, a cut-off run goes on exactly, odd settings are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, TrainerCallback

from hf_vits.training import train

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
