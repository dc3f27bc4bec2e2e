"""Imbalanced classes: weights, balanced batches, the focal loss, and the scores of each class."""

import csv

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score, precision_recall_fscore_support
from transformers import EvalPrediction

from hf_vits.evaluation.accuracy import accuracy_metrics, confusion, rank, scores_of_classes
from hf_vits.objectives import CrossEntropy, FocalLoss, balanced_weights
from hf_vits.training import build_trainer, train
from hf_vits.training.examples.batches import GlobalBatches

from ..support.training import tiny_recipe

COUNTS = {"zero": (0, 80), "six": (6, 20), "four": (4, 10)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folder of digits, 80, 20 and 10 training images of three classes, and 40 test images of each."""
    folder, digits = tmp_path_factory.mktemp("imbalanced"), load_digits()
    for name, (digit, count) in COUNTS.items():
        images = digits.images[digits.target == digit]
        for split, chosen in (("train", images[:count]), ("test", images[-40:])):
            (folder / split / name).mkdir(parents=True)
            for number, image in enumerate(chosen):
                Image.fromarray((image * 15.9).astype(np.uint8)).save(folder / split / name / f"{number}.png")
    return folder


def recipe_of(photos, directory, **changes):
    data = {"source": "folder", "path": str(photos), "validation_fraction": 0}
    train = {"train__length": "100 steps", "train__batch_size": 16, "train__use_ema": False, "train__ema_decay": None}
    return tiny_recipe(
        directory,
        data=data,
        augmentation={},
        optimizer={"learning_rate": 0.002},
        **{"objective": {}} | train | {"train__evaluate_every": None, "train__save_every": None} | changes,
    )


@pytest.mark.parametrize(
    "changes",
    [{"objective__class_weights": "balanced"}, {"data__sampler": "balanced"}],
    ids=["weights", "sampler"],
)
def test_the_rarest_class_is_learned(photos, tmp_path, changes):
    recipe = recipe_of(photos, tmp_path)
    for path, value in changes.items():
        section, key = path.split("__")
        recipe[section][key] = value
    results = train(recipe)
    rows = {row["class"]: row for row in csv.DictReader((tmp_path / "classes.csv").open())}
    assert list(rows) == sorted(COUNTS)
    assert float(rows["four"]["recall"]) > 0.5, rows
    assert results["test"]["balanced_accuracy"] == pytest.approx(np.mean([float(r["recall"]) for r in rows.values()]))
    assert "top5_accuracy" not in results["test"]
    assert "### Classes" in (tmp_path / "README.md").read_text()


def test_weights_multiply_the_terms_of_the_classes():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 2, 2])
    weights = balanced_weights(labels, 3)
    torch.testing.assert_close(weights, torch.tensor([2.0, 2.0, 0.5]))
    each = F.cross_entropy(logits, labels, weight=weights, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(CrossEntropy(0.1, weights)(logits, labels)[0], each.mean())
    torch.testing.assert_close(CrossEntropy(0.1, weights)(logits, F.one_hot(labels).float())[0], each.mean())
    torch.testing.assert_close(FocalLoss(0.0, 0.1, weights)(logits, labels)[0], each.mean())


def test_the_focal_loss_follows_its_paper():
    logits, labels = torch.randn(5, 4, requires_grad=True), torch.tensor([0, 1, 2, 3, 3])
    probability = logits.softmax(1)[range(5), labels]
    loss, _ = FocalLoss(2.0)(logits, labels)
    torch.testing.assert_close(loss, (-((1 - probability) ** 2) * probability.log()).mean())
    certain = (100 * F.one_hot(labels, 4)).float().requires_grad_()
    FocalLoss(0.5)(certain, labels)[0].backward()
    assert certain.grad.isfinite().all()


def test_balanced_epochs_draw_every_class_alike():
    classes = np.repeat([0, 1, 2], [80, 20, 10])
    batches = GlobalBatches(110, 10, 0, classes=classes)
    drawn = []
    for epoch in range(30):
        batches.set_epoch(epoch)
        drawn += [classes[key.index] for batch in batches for key in batch]
    assert np.bincount(drawn) / len(drawn) == pytest.approx([1 / 3] * 3, abs=0.03)
    assert list(batches) == list(batches)


def test_scores_of_classes_agree_with_scikit_learn():
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 3, 50), random.integers(0, 4, 50)
    rows = scores_of_classes(confusion(predicted[:, None], labels, 4))
    expected = precision_recall_fscore_support(labels, predicted, labels=range(4), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "inputs"), expected, strict=True):
        assert [row[key] for row in rows] == pytest.approx(values)
    measured = accuracy_metrics(EvalPrediction(predictions=(predicted[:, None], np.zeros(50)), label_ids=labels))
    assert measured["balanced_accuracy"] == pytest.approx(np.mean(expected[1][:3]))
    assert measured["macro_f1"] == pytest.approx(f1_score(labels, predicted, labels=range(3), average="macro"))
    assert "top5_accuracy" not in measured


def test_the_best_class_alone_is_ranked_among_five():
    assert rank(torch.randn(2, 5), torch.tensor([0, 1]))[0].shape == (2, 1)
    assert rank(torch.randn(2, 6), torch.tensor([0, 1]))[0].shape == (2, 5)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"class_weights": "even"}, "class_weights is balanced or"),
        ({"class_weights": {"nine": 2}}, "the data have no class nine, only four, six, zero"),
        ({"class_weights": {"four": -1}}, "must be finite and not negative"),
        ({"class_weights": "balanced", "loss": "binary"}, "goes with loss: cross_entropy or focal"),
    ],
)
def test_wrong_weights_are_refused(photos, tmp_path, objective, message):
    with pytest.raises(ValueError, match=message):
        build_trainer(recipe_of(photos, tmp_path, objective=objective))
