"""The package's `evaluate` modules: right, offline, and safe to use at once from several processes."""

import socket
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from hf_vits.metrics import load_metric


@pytest.fixture
def scores():
    return np.random.RandomState(0).rand(200, 8)


@pytest.fixture
def labels():
    return np.random.RandomState(1).randint(0, 8, 200)


def test_top_k_accuracy_agrees_with_scikit_learn(scores, labels):
    rankings = np.argsort(-scores, axis=1)[:, :5]
    result = load_metric("top_k_accuracy").compute(predictions=rankings, references=labels)
    assert result == {
        "accuracy": pytest.approx(accuracy_score(labels, scores.argmax(axis=1))),
        "top5_accuracy": pytest.approx(top_k_accuracy_score(labels, scores, k=5)),
    }


def test_top_k_of_fewer_classes_counts_all_of_them():
    result = load_metric("top_k_accuracy").compute(predictions=[[1, 0], [1, 0]], references=[0, 1], k=[1, 5])
    assert result == {"accuracy": 0.5, "top5_accuracy": 1.0}


def test_confusion_matrix_has_true_classes_as_rows_and_knows_absent_ones():
    result = load_metric("confusion_matrix").compute(predictions=[0, 2, 2], references=[0, 0, 2], num_classes=4)
    assert result["confusion_matrix"] == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_loading_opens_no_connection(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise AssertionError(f"connection to {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path))
    load_metric("top_k_accuracy")


def test_several_processes_load_and_compute_at_once(tmp_path):
    code = (
        "from hf_vits.metrics import load_metric\n"
        "m = load_metric('confusion_matrix').compute(predictions=[1], references=[1], num_classes=2)\n"
        "assert m['confusion_matrix'] == [[0, 0], [0, 1]]"
    )
    environment = {"HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]


def test_word_error_rate_counts_the_fewest_edits():
    metric = load_metric("word_error_rate")
    result = metric.compute(predictions=["the cat sat", "a", ""], references=["the black cat sat", "b c", "d"])
    assert result == {
        "word_error_rate": pytest.approx(4 / 7),
        "character_error_rate": pytest.approx((6 + 3 + 1) / (17 + 3 + 1)),
        "substitutions": 1,
        "deletions": 3,
        "insertions": 0,
        "words": 7,
    }


def test_word_error_rate_can_exceed_one_and_ignores_spaces():
    metric = load_metric("word_error_rate")
    assert metric.compute(predictions=["a b c"], references=["d"])["word_error_rate"] == 3
    assert metric.compute(predictions=[" a  b "], references=["a b"])["word_error_rate"] == 0
    with pytest.raises(ValueError, match="the 1 references have no words"):
        metric.compute(predictions=["a"], references=[" "])
