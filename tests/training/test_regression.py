"""Numbers to predict: what tables and datasets may have, runs on every kind of input, saved units, commands."""

import csv
import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from hf_vits.cli import main
from hf_vits.data.images import SOURCES
from hf_vits.data.splits import load_classes
from hf_vits.data.synthetic.moving_digits import write_video
from hf_vits.evaluation.regression import regression_metrics
from hf_vits.objectives import StandardizedSquaredError
from hf_vits.recipe import DataRecipe, load_recipe
from hf_vits.training import build_trainer, train
from hf_vits.training.regression import last_layers, scale_layers

from ..models.test_contracts import FORMS, classifier, inputs
from ..support.training import history
from .test_video_training import TINY_MVIT

TINY = {"image_size": 16, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
VIT = {"system": "vit", "variant": "ViT-Ti_16", "config": TINY}


def level(number: int) -> int:
    return 8 * number + 4


def draw(path, number: int) -> None:
    Image.fromarray(np.full((16, 16, 3), level(number), np.uint8)).save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Thirty grey images; their light in other units, and their darkness."""
    folder = tmp_path_factory.mktemp("photos")
    rows = [["image", "lumen", "darkness", "split"]]
    for number in range(30):
        draw(folder / f"{number}.png", number)
        rows.append([f"{number}.png", 1000 + 10 * level(number), -level(number), "train" if number % 3 else "test"])
    with (folder / "light.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def recipe(photos, directory, **changes):
    return {
        "model": VIT,
        "objective": {"loss": "mse"},
        "data": {
            "source": "csv",
            "path": str(photos / "light.csv"),
            "columns": {"targets": ["lumen", "darkness"]},
            "validation_fraction": 0.0,
        },
        "optimizer": {"learning_rate": 1e-2},
        "train": {
            "length": "120 steps",
            "batch_size": 20,
            "log_every": "50 steps",
            "evaluate_every": "60 steps",
            "save_every": "120 steps",
        },
        "output": {"directory": str(directory), "best": "mae"},
    } | changes


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    return directory, train(recipe(photos, directory))


def test_a_run_learns_numbers_of_other_units(trained):
    directory, results = trained
    assert results["test"]["r2"] > 0.7
    assert results["test"]["lumen_mae"] == pytest.approx(10 * results["test"]["darkness_mae"], rel=0.8)
    config = json.loads((directory / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert config["id2label"] == {"0": "lumen", "1": "darkness"}
    rows = list(csv.DictReader((directory / "targets.csv").open()))
    assert [row["target"] for row in rows] == ["lumen", "darkness"]
    assert "| r2 |" in (directory / "README.md").read_text()
    evaluations = [entry for entry in history(directory) if "eval_mae" in entry]
    assert {"eval_loss", "eval_r2", "eval_lumen_mae"} <= evaluations[0].keys()
    # The logged loss is of standardised targets, whose variance is 1.
    assert evaluations[-1]["eval_loss"] < 0.3


def test_the_saved_model_predicts_in_units_everywhere(trained, photos, capsys):
    directory, results = trained
    model = AutoModelForImageClassification.from_pretrained(directory)
    processor = AutoImageProcessor.from_pretrained(directory)
    image = photos / "15.png"
    with torch.no_grad():
        numbers = model(**processor(Image.open(image).convert("RGB"), return_tensors="pt")).logits[0]
    assert abs(numbers[0] - (1000 + 10 * level(15))) < 1000
    (first, second) = pipeline("image-classification", model=model, image_processor=processor)(str(image))
    assert {first["label"]: first["score"], second["label"]: second["score"]} == pytest.approx(
        dict(zip(("lumen", "darkness"), numbers.tolist(), strict=True)), rel=1e-4
    )
    assert main(["predict", str(directory), str(image), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert list(row["numbers"].values()) == pytest.approx(numbers.tolist(), rel=1e-4)
    assert main(["predict", str(directory), str(image), "--figure", str(directory / "drawn.png")]) == 0
    assert "darkness" in capsys.readouterr().out
    assert main(["evaluate", str(directory), str(directory / "recipe.yaml"), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["r2"] == pytest.approx(results["test"]["r2"], abs=1e-4)
    assert [row["target"] for row in measured["targets"]] == ["lumen", "darkness"]
    assert main(["evaluate", str(directory), str(directory / "recipe.yaml")]) == 0
    assert "lumen" in capsys.readouterr().out


def test_a_model_that_predicts_the_same_numbers_goes_on_from_them(trained, photos, tmp_path):
    directory, results = trained
    trainer = build_trainer(recipe(photos, tmp_path, model={"pretrained": str(directory)}))
    assert trainer.evaluate()["eval_mae"] == pytest.approx(results["test"]["mae"], rel=1e-3)


def test_without_standardisation_the_loss_is_that_of_transformers(photos, tmp_path):
    changed = recipe(photos, tmp_path, objective={"loss": "mse", "standardize": False})
    changed["train"] |= {"length": "1 step"}
    trainer = build_trainer(changed)
    batch = next(iter(trainer.get_train_dataloader()))
    outputs = trainer.model(**batch)
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(outputs.loss.item())


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_the_last_layers_of_every_classifier_can_be_scaled(form):
    model = classifier(form)
    shift, factor = torch.randn(model.config.num_labels), torch.rand(model.config.num_labels) + 0.5
    before = model(inputs(model)).logits
    if form == "c_tran":
        with pytest.raises(ValueError, match="set it to false"):
            last_layers(model)
        return
    scale_layers(last_layers(model), shift, factor)
    torch.testing.assert_close(model(inputs(model)).logits, before * factor + shift, rtol=1e-4, atol=1e-4)


def test_recordings_with_lists_of_numbers(tmp_path, capsys):
    for number in range(6):
        wavfile.write(tmp_path / f"{number}.wav", 16000, np.full(8000, 1000 * number, np.int16))
    lines = [json.dumps({"audio": f"{number}.wav", "level": [number, -number]}) for number in range(6)]
    (tmp_path / "levels.jsonl").write_text("\n".join(lines))
    changed = recipe(tmp_path, tmp_path / "run", task="audio-classification")
    changed["model"] = {
        "system": "septr",
        "variant": "septr_v",
        "config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    }
    changed["data"] |= {"source": "jsonl", "path": str(tmp_path / "levels.jsonl"), "columns": {"targets": "level"}}
    changed["data"]["validation_fraction"] = 0.34
    changed["train"] |= {"length": "1 step", "batch_size": 2, "evaluate_every": "1 step", "save_every": "1 step"}
    assert {"level_0_mae", "level_1_mae", "mae"} <= train(changed)["test"].keys()
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "1.wav"), "--window", "0.2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["numbers"].keys() == row["windows"][0]["numbers"].keys() == {"level_0", "level_1"}


def test_clips(tmp_path, capsys):
    rows = ["video,speed"]
    for number in range(6):
        write_video(tmp_path / f"{number}.mp4", np.full((8, 32, 32, 3), 40 * number, np.uint8), rate=8)
        rows.append(f"{number}.mp4,{number / 2}")
    (tmp_path / "speeds.csv").write_text("\n".join(rows))
    changed = recipe(tmp_path, tmp_path / "run", task="video-classification", model=TINY_MVIT)
    changed["data"] |= {"path": str(tmp_path / "speeds.csv"), "columns": {"targets": "speed"}}
    changed["data"]["validation_fraction"] = 0.34
    changed["train"] |= {"length": "1 step", "batch_size": 2, "evaluate_every": "1 step", "save_every": "1 step"}
    assert {"mae", "mse", "r2"} <= train(changed)["test"].keys()
    capsys.readouterr()
    picture = str(tmp_path / "clip.png")
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "1.mp4"), "--figure", picture]) == 0
    assert "speed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell", "problem"),
    [("", "got ''"), ("much", "got 'much'"), ("nan", "got 'nan'"), ("inf", "got 'inf'")],
)
def test_cells_without_a_number_are_refused_by_file_and_row(photos, tmp_path, cell, problem):
    (tmp_path / "light.csv").write_text(f"image,lumen\n{photos / '0.png'},1\n{photos / '1.png'},{cell}\n")
    with pytest.raises(ValueError, match=rf"light\.csv, row 2: column 'lumen': expected a finite number, {problem}"):
        load_classes(DataRecipe(source="csv", path=str(tmp_path / "light.csv"), columns={"targets": "lumen"}), SOURCES)


@pytest.mark.parametrize("kind", [datasets.Value("float32"), datasets.Sequence(datasets.Value("float64"))])
def test_columns_of_datasets(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    is_list = not isinstance(kind, datasets.Value)
    values = [[number, number / 2] if is_list else number for number in range(8)]
    images = [Image.fromarray(np.zeros((4, 4, 3), np.uint8))] * 8
    features = datasets.Features({"image": datasets.Image(), "lumen": kind})
    stored = datasets.Dataset.from_dict({"image": images, "lumen": values}, features=features)
    stored.save_to_disk(tmp_path / "stored")
    data = DataRecipe(source="datasets", path=str(tmp_path / "stored"), columns={"targets": "lumen"})
    found = load_classes(data, SOURCES)
    assert list(found.class_names) == (["lumen_0", "lumen_1"] if is_list else ["lumen"])
    assert found.is_regression
    assert found.train.labels.shape == (7, 1 + is_list)
    values[3] = [1.0, None] if is_list else None
    datasets.Dataset.from_dict({"image": images, "lumen": values}, features=features).save_to_disk(tmp_path / "holes")
    with pytest.raises(ValueError, match=r"holes, train split, row 4: column 'lumen': expected a finite number, got"):
        load_classes(
            DataRecipe(source="datasets", path=str(tmp_path / "holes"), columns={"targets": "lumen"}), SOURCES
        )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["objective.loss=cross_entropy"], "go together, got objective.loss: cross_entropy with data.columns.targets"),
        (["data.columns={label: lumen}"], "go together, got objective.loss: mse without data.columns.targets"),
        (["data.columns={label: lumen, targets: lumen}"], "only one of these"),
        (["augmentation.cutmix=1.0"], "goes without augmentation.cutmix"),
        (["task=pretraining"], "data.columns.targets is for image-classification"),
        (["data.num_classes=2"], "data.num_classes is for classes"),
    ],
)
def test_what_does_not_go_with_numbers_is_refused(photos, tmp_path, changes, problem):
    with pytest.raises(ValueError, match=problem):
        load_recipe(recipe(photos, tmp_path), changes)


def test_errors_and_determination():
    true, predicted = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]]), np.array([[0.0, 0.0], [2.0, 2.0], [1.0, 4.0]])
    scores = regression_metrics(predicted, true, ["a", "b"])
    assert scores["a_mae"] == 1.0
    assert scores["b_mse"] == pytest.approx(2 / 3)
    assert scores["a_r2"] == pytest.approx(1 - 9 / 8)
    assert scores["r2"] == pytest.approx((1 - 9 / 8 + 1 - 2 / 6) / 2)
    assert "r2" not in regression_metrics(predicted[:1], true[:1], ["a", "b"])
    objective = StandardizedSquaredError(torch.tensor([2.0, 1.0]), torch.tensor([2.0, 4.0]))
    labels = torch.tensor([[4.0, 5.0]])
    assert objective(torch.ones(1, 2), labels)[0] == 0
    assert torch.equal(objective.in_units(torch.ones(1, 2)), labels)
