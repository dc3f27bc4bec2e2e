"""Labels of which several may be true: from tables and datasets to losses and scores."""

import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from hf_vits.data.columns import load_dataset_classes
from hf_vits.data.images import SOURCES
from hf_vits.data.splits import load_classes
from hf_vits.evaluation.multi_label import best_thresholds
from hf_vits.layers.multi_label import draw_known_labels
from hf_vits.metrics import load_metric
from hf_vits.objectives import AsymmetricLoss, BinaryCrossEntropy, MaskedLabelLoss, SigmoidCrossEntropy
from hf_vits.recipe import DataRecipe

NAN = float("nan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for number in range(4):
        Image.new("L", (4, 4), number).save(folder / f"{number}.png")
    rows = [
        "image,has_cat,has_dog,split",
        "0.png,1,0,train",
        "1.png,yes,,train",
        "2.png,no,-1,train",
        "3.png,0,1,test",
    ]
    (folder / "columns.csv").write_text("\n".join(rows))
    lists = [["cat", "dog"], [], None, ["dog"]]
    lines = [
        {"image": f"{i}.png", "tags": tags, "split": "test" if i == 3 else "train"} for i, tags in enumerate(lists)
    ]
    (folder / "lists.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def load(folder, name, labels):
    return load_classes(
        DataRecipe(
            source=name.rpartition(".")[2],
            path=str(folder / name),
            columns={"image": "image", "labels": labels},
            validation_fraction=0.0,
        ),
        SOURCES,
    )


@pytest.mark.parametrize("labels", ["has_*", ["has_cat", "has_dog"]])
def test_a_table_has_a_column_per_label(folder, labels):
    splits = load(folder, "columns.csv", labels)
    assert splits.class_names == ["has_cat", "has_dog"]
    assert splits.is_multi_label
    np.testing.assert_array_equal(splits.train.labels, np.float32([[1, 0], [1, NAN], [0, NAN]]))
    np.testing.assert_array_equal(splits.test.labels, np.float32([[0, 1]]))


def test_a_table_has_a_column_of_lists(folder):
    splits = load(folder, "lists.jsonl", "tags")
    assert splits.class_names == ["cat", "dog"]
    np.testing.assert_array_equal(splits.train.labels, np.float32([[1, 1], [0, 0], [NAN, NAN]]))


def test_odd_cells_and_columns_are_refused(folder):
    with pytest.raises(ValueError, match="column 'image': a label is 1, yes"):
        load(folder, "columns.csv", ["has_cat", "image"])
    with pytest.raises(ValueError, match="has no column"):
        load(folder, "columns.csv", "nothing_*")


@pytest.mark.parametrize("columns", [{}, {"labels": "tags"}])
def test_a_dataset_has_lists_of_class_labels(tmp_path, columns, monkeypatch):
    features = datasets.Features(
        {"image": datasets.Image(), "tags": datasets.Sequence(datasets.ClassLabel(names=["cat", "dog", "cow"]))}
    )
    rows = {"image": [Image.new("L", (4, 4))] * 3, "tags": [[0, 2], [], [1]]}
    loaded = datasets.DatasetDict(train=datasets.Dataset.from_dict(rows, features=features))
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **options: loaded)
    found = load_dataset_classes(DataRecipe(source="datasets", path="any", columns=columns), "image", datasets.Image)
    assert found.class_names == ["cat", "dog", "cow"]
    np.testing.assert_array_equal(found.splits["train"].labels, np.float32([[1, 0, 1], [0, 0, 0], [0, 1, 0]]))


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), SigmoidCrossEntropy(), AsymmetricLoss()])
def test_unknown_labels_count_in_no_loss(loss):
    logits = torch.tensor([[2.0, -1.0, 0.5]], requires_grad=True)
    loss(logits, torch.tensor([[1.0, NAN, 0.0]]))[0].backward()
    assert logits.grad[0, 1] == 0
    assert logits.grad[0, [0, 2]].abs().min() > 0
    values = [loss(torch.tensor([[2.0, other, 0.5]]), torch.tensor([[1.0, NAN, 0.0]]))[0] for other in (-3.0, 3.0)]
    assert values[0] == values[1]


def test_asymmetric_loss_without_focus_is_binary_cross_entropy():
    logits, labels = torch.randn(4, 5), torch.rand(4, 5).round()
    loss, _ = AsymmetricLoss(gamma_negative=0.0, margin=0.0)(logits, labels)
    torch.testing.assert_close(loss, SigmoidCrossEntropy()(logits, labels)[0])
    easy = torch.full((1, 1), -4.0)  # a probability below the margin
    assert AsymmetricLoss()(easy, torch.zeros(1, 1))[0] == 0


def test_masked_label_loss_leaves_out_what_was_given():
    logits, labels = torch.randn(2, 3), torch.tensor([[1.0, 0.0, 1.0], [0.0, NAN, 1.0]])
    known = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    expected = (losses[0, 1] + losses[0, 2] + losses[1, 0]) / 2
    torch.testing.assert_close(MaskedLabelLoss()(logits, labels, known)[0], expected)


def test_single_labels_cannot_be_made_known():
    with pytest.raises(ValueError, match="is for data with several labels"):
        draw_known_labels(torch.tensor([1, 0, 2]), 0.5)


def test_unknown_labels_never_become_known():
    labels = torch.tensor([[1.0, NAN, 0.0, NAN]]).repeat(50, 1)
    known = draw_known_labels(labels, 1.0)
    assert (known[:, [1, 3]] == -1).all()
    assert set(known[:, 0].tolist()) == {1, -1}
    assert set(known[:, 2].tolist()) == {0, -1}


def test_scores_are_scikit_learns():
    random = np.random.default_rng(0)
    scores, labels = random.random((40, 6)).round(1), random.integers(0, 2, (40, 6)).astype(float)
    metric = load_metric("multi_label")
    found = metric.compute(predictions=scores, references=labels)
    assert found["mAP"] == pytest.approx(average_precision_score(labels, scores, average="macro"))
    labels[:, 0] = 0
    expected = average_precision_score(labels[:, 1:], scores[:, 1:], average="macro")
    known = np.zeros_like(labels, dtype=bool)
    assert metric.compute(predictions=scores, references=labels, known=known)["mAP"] == pytest.approx(expected)
    labels[:20, 1:] = NAN
    expected = average_precision_score(labels[20:, 1:], scores[20:, 1:], average="macro")
    assert metric.compute(predictions=scores, references=labels)["mAP"] == pytest.approx(expected)


def test_thresholds_are_the_best_of_each_class():
    probabilities = np.array([[0.9, 0.2], [0.6, 0.1], [0.4, 0.3], [0.1, 0.4]])
    labels = np.array([[1, 0], [1, 0], [0, 0], [NAN, 0]])
    assert best_thresholds(probabilities, labels) == pytest.approx([0.5, 0.5])
    labels[2, 0] = 1
    assert best_thresholds(probabilities, labels)[0] == pytest.approx(0.2)
