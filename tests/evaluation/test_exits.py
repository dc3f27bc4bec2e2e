"""Early exits from training to prediction: losses, `hf-vits evaluate --method exits`, thresholds, `predict`."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_vits import DvtForImageClassification
from hf_vits.cli import main
from hf_vits.evaluation.exits import exit_costs, static_cost
from hf_vits.hub import save_for_hub
from hf_vits.training import train

from ..models.dvt.forms import PATCHES
from ..support.hub import tiny_model, tiny_processor
from ..support.training import history, tiny_recipe

CLASSES = ("cat", "dog", "eel")


def command(*arguments) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Random images in folders train and test, with a folder per class."""
    folder, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 10)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture
def saved(tmp_path) -> Path:
    return save_for_hub(tiny_model("dvt"), tmp_path / "dvt", tiny_processor(), bundle=False)


def test_a_run_sums_the_losses_of_all_exits(tmp_path):
    config = {"image_size": 16, "kernel_sizes": [8, 4], "strides": [8, 4], "paddings": [0, 0], "num_channels": 1}
    config |= {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = {"system": "dvt", "variant": "DVT_Deit_small", "config": config}
    changes = {"optimizer": {"learning_rate": 0.003}, "train__length": "8 steps", "train__evaluate_every": "8 steps"}
    train(tiny_recipe(tmp_path / "run", model=model, **changes))
    steps = [entry for entry in history(tmp_path / "run") if "loss" in entry]
    assert len(steps) == 8
    for entry in steps:
        assert float(entry["loss"]) == pytest.approx(float(entry["exit1_loss"]) + float(entry["exit2_loss"]), rel=1e-3)


def test_evaluation_measures_exits_budgets_and_static_networks(saved, photos, tmp_path):
    static = save_for_hub(tiny_model("deit"), tmp_path / "deit", tiny_processor(), bundle=False)
    figure = tmp_path / "figures" / "exits.png"
    arguments = ("evaluate", saved, photos, "--method", "exits", "--compare", static, "--figure", figure)
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["calibration"], result["images"]) == ("train, 60 images", 30)
    costs = [1e9 * row["multiply_adds"] for row in result["exits"]]
    assert costs == exit_costs(tiny_model("dvt")).tolist() == sorted(costs)
    assert costs[-1] == static_cost(tiny_model("dvt"))
    assert [row["network"] for row in result["static"]] == ["deit"]
    assert len(result["budgets"]) == 59
    for row in result["budgets"]:
        assert costs[0] <= 1e9 * row["multiply_adds"] <= costs[-1]
        expected = np.dot(row["fractions"], costs) / 1e9
        assert row["multiply_adds"] == pytest.approx(expected)
    assert Image.open(figure).size[0] > 400


def test_saved_thresholds_are_used_by_predict(saved, photos, tmp_path):
    costs = exit_costs(tiny_model("dvt")).tolist()
    budget = (costs[0] + costs[1]) / 2e9
    before = json.loads((saved / "config.json").read_text())
    arguments = ("evaluate", saved, photos, "--method", "exits", "--budget", f"{budget:.12f}", "--save")
    code, out, err = command(*arguments)
    assert code == 0, err
    assert "thresholds of the budget" in out
    after = json.loads((saved / "config.json").read_text())
    thresholds = after.pop("exit_thresholds")
    before.pop("exit_thresholds", None)
    assert after == before
    files = sorted((photos / "test").rglob("*.png"))
    code, out, _ = command("predict", saved, *files, "--json")
    assert code == 0
    model = DvtForImageClassification.from_pretrained(saved)
    assert list(model.config.exit_thresholds) == thresholds
    pixel_values = tiny_processor()([Image.open(path) for path in files], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        outputs = model.adaptive(pixel_values)
    assert 0 < outputs.exits.float().mean() < 2
    scores = outputs.logits.softmax(-1).amax(-1).tolist()
    predicted = json.loads(out)["predictions"]
    assert [row["file"] for row in predicted] == [str(path) for path in files]
    assert [row["predictions"][0]["score"] for row in predicted] == pytest.approx(scores, abs=1e-4)
    assert [row["exit"] for row in predicted] == [index + 1 for index in outputs.exits.tolist()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "exits", "--save"), "give --budget"),
        (("--method", "exits", "--split", "train"), "choose validation or test"),
        (("--method", "exits", "--budget", "0.00000001"), "cannot be kept"),
        (("--method", "knn", "--budget", "1"), "--budget goes with --method exits"),
    ],
)
def test_wrong_options_are_refused(options, message, saved, photos):
    code, out, err = command("evaluate", saved, photos, *options)
    assert (code, out) == (2, "")
    assert message in err


def test_a_model_without_exits_is_refused(photos, tmp_path):
    static = save_for_hub(tiny_model("deit"), tmp_path / "deit", tiny_processor(), bundle=False)
    code, _, err = command("evaluate", static, photos, "--method", "exits")
    assert code == 2
    assert "no early exits" in err


def test_learned_positions_are_no_obstacle_to_counting():
    model = tiny_model("dvt", **PATCHES)
    assert exit_costs(model).tolist() == sorted(exit_costs(model).tolist())
    assert exit_costs(model)[-1] == static_cost(model)
