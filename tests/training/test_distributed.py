"""The same run over two processes, and over accumulated parts of its batches: the same loss curve."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from hf_vits.training import train
from hf_vits.training.examples.randomness import PartOfBatch
from hf_vits.training.launch import missing_processes

from ..support.paths import ROOT
from ..support.training import history, losses, tiny_recipe
from .test_audio_training import BRANCHFORMER
from .test_audio_training import tiny as tiny_audio
from .test_detection_training import HEADS
from .test_detection_training import recipe as tiny_objects
from .test_pretraining_runs import BACKBONE, tiny

NORMS = {"head_norm": "batch_norm", "backbone_config": BACKBONE | {"feed_forward": "locality"}}
# {name of a run without labels: its method, changes of the model's configuration}
PRETRAINING = {"mae": ("mae", {}), "ibot": ("ibot", {}), "ibot with batch norms": ("ibot", NORMS)}
# Padding depends on what is in a process's part of a batch, and dropout on padding.
EXACT = {"mask_convolutions": True} | dict.fromkeys(
    ("hidden_dropout_prob", "position_dropout_prob", "attention_probs_dropout_prob"), 0.0
)


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory) -> dict[str, Path]:
    """{name: recipe file} of runs that two processes, started once for all, have finished."""
    folder = tmp_path_factory.mktemp("two")
    recipes = {"classification": tiny_recipe(folder / "classification", train__length="12 steps")}
    for name, (method, fields) in PRETRAINING.items():
        recipes[name] = tiny(method, folder / name, train__length="10 steps")
        model = recipes[name]["model"]
        recipes[name]["model"] = model | {"config": model["config"] | fields}
    speech = BRANCHFORMER | {"config": BRANCHFORMER["config"] | EXACT}
    recipes["speech"] = tiny_audio(folder / "speech", folder / "spoken", "automatic-speech-recognition", speech)
    recipes["objects"] = untrained_objects(folder / "objects")
    files = {name: folder / f"{name}.yaml" for name in recipes}
    for name, recipe in recipes.items():
        files[name].write_text(yaml.safe_dump(recipe))
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "--num_processes", "2", "--cpu"]
    command += ["-m", "tests.support.train_all", *map(str, files.values())]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=280)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return files


def untrained_objects(directory: Path) -> dict:
    """A recipe of a Mask R-CNN that learns nothing, so that only its evaluation counts: of five images, one by one."""
    many = {"score_threshold": 0.0, "max_detections": 500, "anchor_sizes": [[16], [24], [32], [48], [64]]}
    recipe = tiny_objects(directory, "MaskRCNN_1x_RegionViT-S", **HEADS | many | {"max_proposals": 100})
    train = recipe["train"] | {"length": "1 steps", "evaluation_batch_size": 1}
    data = recipe["data"] | {"config": "25x48"}
    return recipe | {"optimizer": {"learning_rate": 1e-12}, "data": data, "train": train}


def alone_and_together(shared_runs, name: str, directory: Path) -> tuple[dict, dict, Path]:
    """Return the results of a run by this process, those of the run by two, and the directory of the latter."""
    alone = train(shared_runs[name], [f"output.directory={directory}"])
    two = shared_runs[name].parent / name
    together = json.loads((two / "results.json").read_text())
    assert (alone["processes"], together["processes"]) == (1, 2)
    return alone, together, two


def test_two_processes_follow_the_curve_of_one(tmp_path, shared_runs):
    _, _, two = alone_and_together(shared_runs, "classification", tmp_path)
    assert len(list((two / "checkpoints").glob("checkpoint-12/rng_state_*.pth"))) == 2
    assert len(losses(tmp_path)) == 12
    assert losses(two) == pytest.approx(losses(tmp_path), abs=1e-3)
    for ours, theirs in zip(evaluations(tmp_path), evaluations(two), strict=True):
        assert theirs == pytest.approx(ours, abs=1e-3)


def evaluations(directory: Path) -> list[list[float]]:
    return [[e["eval_loss"], e["eval_accuracy"]] for e in history(directory) if "eval_loss" in e]


@pytest.mark.parametrize("name", PRETRAINING)
def test_two_processes_follow_the_curve_of_one_without_labels(tmp_path, shared_runs, name):
    alone, together, two = alone_and_together(shared_runs, name, tmp_path)
    assert len(losses(tmp_path)) == 10
    assert losses(two) == pytest.approx(losses(tmp_path), abs=1e-4)
    assert together["test"]["knn_accuracy"] == pytest.approx(alone["test"]["knn_accuracy"], abs=0.02)


def test_two_processes_recognise_speech_as_one_does(tmp_path, shared_runs):
    alone, together, two = alone_and_together(shared_runs, "speech", tmp_path)
    assert len(losses(tmp_path)) == 4
    assert losses(two) == pytest.approx(losses(tmp_path), rel=1e-3)
    assert together["test"] == pytest.approx(alone["test"], rel=1e-3)
    assert (two / "transcripts.csv").read_text() == (tmp_path / "transcripts.csv").read_text()


def test_two_processes_measure_detections_as_one_does(tmp_path, shared_runs):
    alone, together, two = alone_and_together(shared_runs, "objects", tmp_path)
    assert alone["test"]["box_AP"] > 0
    assert together["test"] == pytest.approx(alone["test"], abs=1e-6)
    assert (two / "average_precision.csv").read_text() == (tmp_path / "average_precision.csv").read_text()


@pytest.mark.parametrize("cosub", [False, True])
def test_accumulation_follows_the_curve_of_whole_batches(tmp_path, cosub):
    changes = {"train__length": "8 steps"}
    if cosub:
        changes["objective"] = {"loss": "binary", "cosub": True}
    train(tiny_recipe(tmp_path / "whole", **changes))
    train(tiny_recipe(tmp_path / "parts", train__accumulation=4, **changes))
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"batch_size 32 cannot be divided equally among 1 process.* x train.accumulation 5"
    ):
        train(tiny_recipe(tmp_path, train__accumulation=5))


def drop(x):
    """Random operations as models use them, in place, fused, new, and on a batch folded with windows."""
    generator_free = (
        torch.empty(len(x), 1).bernoulli_(0.5) + torch.rand(len(x), 1) + torch.randn(2 * len(x), 3)[::2, :1]
    )
    return torch.nn.functional.dropout(x, 0.3) * generator_free


def test_parts_of_a_batch_drop_what_the_whole_drops():
    x = torch.ones(12, 5)
    torch.manual_seed(0)
    whole = drop(x)
    for parts in (2, 3, 4):
        rows = 12 // parts
        for part in range(parts):
            torch.manual_seed(0)
            with PartOfBatch(rows, part, parts):
                own = drop(x[:rows])
            assert torch.equal(own, whole[part * rows : (part + 1) * rows])


def test_parts_of_a_stacked_batch_drop_what_the_whole_drops():
    torch.manual_seed(0)
    whole = torch.empty(8, 3).bernoulli_(0.5).unflatten(0, (2, 4))
    torch.manual_seed(0)
    with PartOfBatch(2, 1, 2, copies=2):
        own = torch.empty(4, 3).bernoulli_(0.5).unflatten(0, (2, 2))
    assert torch.equal(own, whole[:, 2:])


def test_the_fused_dropout_of_accelerators_is_split_too():
    x = torch.ones(4, 5)
    torch.manual_seed(0)
    with PartOfBatch(4, 0, 2):
        first, kept = torch.ops.aten.native_dropout(x, 0.5, True)
    torch.manual_seed(0)
    with PartOfBatch(4, 1, 2):
        second, _ = torch.ops.aten.native_dropout(x, 0.5, True)
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(first > 0, kept)
    assert not torch.equal(first, second)


def test_processes_are_not_started_where_accelerate_did_not_leave_one_alone(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert missing_processes() == 0
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert missing_processes() == 0
