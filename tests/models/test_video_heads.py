"""Videos with several labels, such as an action's noun and verb: tables, training, evaluation, predictions."""

import csv
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from hf_vits import VivitConfig, VivitForVideoClassification
from hf_vits.cli import main
from hf_vits.data.label_groups import combined, heads_of, most_probable, most_probable_of_heads, taken_apart
from hf_vits.data.splits import load_classes
from hf_vits.data.synthetic.moving_digits import DIRECTIONS, moving_digits, write_video
from hf_vits.data.videos import SOURCES
from hf_vits.evaluation.accuracy import accuracy_metrics, confusion, rank
from hf_vits.layers.label_heads import joint_scores, log_probabilities, multi_head_cross_entropy
from hf_vits.processing.decoding import read_frames
from hf_vits.processing.views import average_views, score_views
from hf_vits.recipe import AugmentationRecipe, DataRecipe, load_recipe
from hf_vits.training import train
from hf_vits.training.examples.images import TrainingCollator

from ..support.training import losses

SIZE = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
TINY = {
    "system": "vivit",
    "variant": "vivit_large_factorised_encoder_epic_kitchens",
    "config": {
        "image_size": 32,
        "num_frames": 4,
        "tubelet_size": [2, 16, 16],
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_temporal_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
    "processor": {"num_frames": 4, "sampling_rate": 2, **SIZE},
}
COLUMNS = {"label": ["direction", "digit"]}
HEADS = {"direction": 4, "digit": 10}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Where 60 videos are listed with the digit that moves and where it moves to."""
    return moving_digits(tmp_path_factory.mktemp("videos"), count=60)


def rows_of(table):
    with table.open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def recipe_of(table, directory, **sections):
    return {
        "task": "video-classification",
        "model": TINY,
        "data": {"source": "csv", "path": str(table), "columns": COLUMNS, "test_fraction": 0.3},
        "augmentation": {"mixup": 0.2, "randaugment": {"ops": 2, "magnitude": 15, "policy": "scenic"}},
        "video": {"clips": 2, "crops": 1},
        "objective": {"label_smoothing": 0.2},
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "options": {"momentum": 0.9}},
        "train": {"length": "4 steps", "batch_size": 8, "log_every": "1 step"},
        "output": {"directory": str(directory)},
    } | sections


# labels


def test_every_column_has_classes_of_its_own(table):
    splits = load_classes(DataRecipe(source="csv", path=str(table), columns=COLUMNS), SOURCES)
    directions = [f"direction: {name}" for name in sorted(DIRECTIONS)]
    assert splits.class_names == [*directions, *(f"digit: {digit}" for digit in range(10))]
    assert list(splits.head_sizes) == [4, 10]
    rows = rows_of(table)
    for split in (splits.train, splits.test):
        for index in range(len(split)):
            row = rows[split.inputs[index].name]
            names = [splits.class_names[label] for label in split.labels[index]]
            assert names == [f"direction: {row['direction']}", f"digit: {row['digit']}"]


def test_combinations_and_their_parts():
    labels = np.array([[0, 4], [2, 13], [3, 9]])
    positions = combined(labels, (4, 10))
    assert positions.tolist() == [0, 29, 35]
    assert np.array_equal(taken_apart(positions, (4, 10)), labels)


@pytest.mark.parametrize(
    ("columns", "source", "message"),
    [
        ({"label": ["direction"]}, "csv", "one column, or a list of 2 or more"),
        ({"label": ["digit", "digit"]}, "csv", "one column, or a list of 2 or more"),
        ({"label": ["direction", "digit"]}, "folder", "data.columns.label: the source folder does not read it"),
        ({"video": ["path", "digit"]}, "csv", "data.columns.video is one column"),
        ({"label": ["direction", "colour"]}, "csv", "has no column colour, only path, direction, digit"),
        ({"label": ["direction", "shape"]}, "csv", "two or more for each column of labels"),
    ],
)
def test_columns_that_cannot_be_are_refused(table, tmp_path, columns, source, message):
    path = tmp_path / "videos.csv"
    rows = list(rows_of(table).values())
    if "shape" in columns.get("label", []):
        rows = [row | {"shape": "round"} for row in rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"path": str(table.parent / row["path"])} for row in rows)
    data = {"source": source, "path": str(path), "columns": columns}
    with pytest.raises(ValueError, match=message):
        load_classes(load_recipe(recipe_of(table, tmp_path, data=data)).data, SOURCES)


def test_only_a_model_with_heads_learns_several_labels(table, tmp_path):
    mvit = {"system": "mvit", "variant": "mvitv2_s_16x4_k400", "config": {"image_size": 32, "num_frames": 4}}
    with pytest.raises(ValueError, match="a MvitForVideoClassification has one head; use a ViViT"):
        train(recipe_of(table, tmp_path, model=mvit))
    with pytest.raises(ValueError, match=r"objective\.loss binary takes one label of each video"):
        train(recipe_of(table, tmp_path, objective={"loss": "binary"}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_labels_of_a_batch_are_a_distribution_for_each_head(mixup):
    labels = torch.tensor([[0, 2], [1, 4], [1, 3]])
    items = [
        {"pixel_values": torch.zeros(2, 3, 8, 8), "labels": row, "mix_seed": 3 if mixup else None} for row in labels
    ]
    batch = TrainingCollator(AugmentationRecipe(mixup=mixup), num_classes=5)(items)["labels"]
    assert batch.shape == (3 - bool(mixup), 5)  # of what is mixed the first is dropped
    torch.testing.assert_close(batch[:, :2].sum(1), torch.ones(len(batch)))
    torch.testing.assert_close(batch[:, 2:].sum(1), torch.ones(len(batch)))
    if not mixup:
        assert torch.equal(batch.nonzero()[:, 1].view(3, 2), labels)


# scores


def config_of(names, head_sizes):
    return VivitConfig(
        id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}, head_sizes=head_sizes
    )


def test_an_input_is_right_where_all_heads_are():
    logits = torch.tensor([[3.0, 0, 0, 2, 0], [0, 3.0, 0, 0, 2], [3.0, 0, 2, 0, 0], [0, 3.0, 0, 0, 2]])
    labels = torch.tensor([[0, 3], [1, 2], [1, 3], [1, 4]])  # both right, the first, none, both
    heads = {"verb": 2, "noun": 3}
    ranking, loss = rank(logits, labels, heads)
    prediction = type("Prediction", (), {"predictions": (ranking.numpy(), loss.numpy()), "label_ids": labels.numpy()})
    measured = accuracy_metrics(prediction, heads)
    within = labels - torch.tensor([0, 2])
    assert measured["loss"] == pytest.approx(float(multi_head_cross_entropy(logits, within, (2, 3))))
    assert (measured["accuracy"], measured["verb_accuracy"], measured["noun_accuracy"]) == (0.5, 0.75, 0.5)
    top5 = [(joint_scores(row[None], (2, 3))[0].topk(5).indices == position).any()
            for row, position in zip(logits, combined(labels.numpy(), (2, 3)), strict=True)]  # fmt: skip
    assert measured["top5_accuracy"] == pytest.approx(float(torch.stack(top5).float().mean()))
    matrix = confusion(ranking.numpy(), labels.numpy(), 5, heads)
    assert matrix.sum() == 8
    assert (matrix[1, 0], matrix[1, 1], matrix[2, 4], matrix[3, 2]) == (1, 2, 1, 1)
    assert not matrix[:2, 2:].any()
    assert not matrix[2:, :2].any()


def test_heads_are_named_after_their_columns():
    assert heads_of(config_of(["verb: go", "verb: stop", "noun: a", "noun: b"], [2, 2])) == {"verb": 2, "noun": 2}
    assert heads_of(config_of(["go", "stop", "a", "b"], [2, 2])) == {"head1": 2, "head2": 2}
    assert heads_of(config_of(["go", "stop"], None)) == {}


def test_the_most_probable_combinations():
    config = config_of(["verb: go", "verb: stop", "noun: a", "noun: b", "noun: c"], [2, 3])
    probabilities = torch.tensor([0.9, 0.1, 0.2, 0.5, 0.3])
    best = most_probable(config, probabilities, 3)
    assert [entry["label"] for entry in best] == ["verb: go, noun: b", "verb: go, noun: c", "verb: go, noun: a"]
    assert [entry["score"] for entry in best] == pytest.approx([0.45, 0.27, 0.18])
    of_heads = most_probable_of_heads(config, probabilities, 2)
    assert [entry["label"] for entry in of_heads["noun"]] == ["noun: b", "noun: c"]
    assert of_heads["verb"][0]["score"] == pytest.approx(0.9)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_views_are_averaged_head_by_head(average):
    views = torch.randn(6, 2, 5)
    found = log_probabilities(average_views(list(views), average, (2, 3)), (2, 3)).exp()
    heads = views.split((2, 3), dim=-1)
    expected = [head.mean(0).softmax(-1) if average == "logits" else head.softmax(-1).mean(0) for head in heads]
    torch.testing.assert_close(found, torch.cat(expected, dim=-1))


# whole runs


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    recipe = recipe_of(table, directory)
    return directory, recipe, train(recipe)


def test_a_run_measures_actions_and_each_head(run):
    directory, recipe, results = run
    model = AutoModelForVideoClassification.from_pretrained(directory).eval()
    assert type(model) is VivitForVideoClassification
    assert heads_of(model.config) == HEADS
    processor = AutoVideoProcessor.from_pretrained(directory)
    test = load_classes(DataRecipe(**recipe["data"]), SOURCES).test
    right = []
    for index in range(len(test)):
        scores = score_views(model, processor, test.inputs[index], num_clips=2)  # Scenic's: the mean of the logits
        right.append([head.argmax() + first for head, first in zip(scores.split((4, 10)), (0, 4), strict=True)])
    right = np.array(right) == test.labels
    assert results["test"]["direction_accuracy"] == pytest.approx(right[:, 0].mean())
    assert results["test"]["digit_accuracy"] == pytest.approx(right[:, 1].mean())
    assert results["test"]["accuracy"] == pytest.approx(right.all(1).mean())
    assert losses(directory)[0] == pytest.approx((np.log(4) + np.log(10)) / 2, rel=1e-3)  # a classifier of zeros
    card = (directory / "README.md").read_text()
    assert "direction_accuracy" in card
    with (directory / "confusion_matrix.csv").open() as file:
        counts = np.array([row[1:] for row in csv.reader(file)][1:], dtype=int)
    assert counts.sum() == 2 * len(test)


def test_evaluate_repeats_the_test_of_a_run(run, tmp_path, capsys):
    directory, recipe, results = run
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert main(["evaluate", str(directory), str(tmp_path / "recipe.yaml"), "--json", "--batch-size", "40"]) == 0
    repeated = json.loads(capsys.readouterr().out)
    for name, value in results["test"].items():
        assert repeated[name] == pytest.approx(value, rel=1e-4), name


def test_predict_tells_actions_and_the_classes_of_each_head(run, table, tmp_path, capsys):
    directory = run[0]
    names = list(rows_of(table))[:3]
    frames = np.concatenate([read_frames(table.parent / name, range(20)) for name in names])
    write_video(tmp_path / "long.mp4", iter(frames), 30)
    arguments = ["predict", str(directory), str(tmp_path / "long.mp4"), "--top-k", "3"]
    assert main([*arguments, "--json", "--figure", str(tmp_path / "long.png")]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["heads"].keys() == HEADS.keys()
    assert all(len(best) == 3 for best in row["heads"].values())
    first = {name: best[0] for name, best in row["heads"].items()}
    assert row["predictions"][0]["label"] == f"{first['direction']['label']}, {first['digit']['label']}"
    assert row["predictions"][0]["score"] == pytest.approx(first["direction"]["score"] * first["digit"]["score"])
    assert all("direction: " in window["label"] and "digit: " in window["label"] for window in row["windows"])
    assert (tmp_path / "long.png").stat().st_size > 10_000
    assert main(arguments) == 0
    assert "; digit: " in capsys.readouterr().out


def test_what_scenic_trained_is_fine_tuned_on_other_classes(run, table, tmp_path):
    """A model of other nouns and verbs keeps its encoder and gets new heads."""
    recipe = recipe_of(table, tmp_path / "again", model={"pretrained": str(run[0])})
    recipe["data"] = recipe["data"] | {"columns": {"label": ["digit", "direction"]}}
    train(recipe | {"train": recipe["train"] | {"length": "1 step"}})
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "again")
    assert heads_of(model.config) == {"digit": 10, "direction": 4}
