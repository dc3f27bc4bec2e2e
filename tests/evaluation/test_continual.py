"""Measures of continual learning by hand-made accuracies and features."""

import numpy as np
import pytest
import torch

from hf_vits.evaluation import continual as measures

ACCURACY = np.array([[0.9, 0.1, 0.0], [0.5, 0.8, 0.2], [0.6, 0.4, 0.7]])


def test_classes_are_divided_as_equally_as_possible():
    assert measures.classes_per_task(10, 4) == [3, 3, 2, 2]
    assert measures.classes_per_task(23, 6, first=8) == [8, 3, 3, 3, 3, 3]
    for arguments in ((3, 4), (5, 1, 4), (4, 3, 3)):
        with pytest.raises(ValueError, match="tasks"):
            measures.classes_per_task(*arguments)


def test_samples_belong_to_the_task_of_their_class():
    tasks, positions = measures.split_classes([7, 5, 9, 1], [5, 9, 7], [2, 1])
    assert tasks.tolist() == [1, 0, 0, -1]
    assert positions.tolist() == [2, 0, 1, -1]
    with pytest.raises(ValueError, match=r"class_order has \[5\] more than once"):
        measures.split_classes([5], [5, 5], [1, 1])
    with pytest.raises(ValueError, match="the tasks have 1 classes"):
        measures.split_classes([5], [5, 6], [1])


def test_hits_with_and_without_the_task():
    logits = torch.tensor([[1.0, 0.0, 5.0, 0.0], [0.0, 3.0, 1.0, 2.0]])
    aware, agnostic = measures.hits(logits, torch.tensor([0, 3]), [2, 2])
    assert aware.tolist() == [True, True]
    assert agnostic.tolist() == [False, False]
    # Sure of class 2 within its head, but of class 0 more so within its own.
    sure = torch.tensor([[4.0, 0.0, 5.0, 4.0]])
    assert measures.hits(sure, torch.tensor([0]), [2, 2])[1].tolist() == [False]
    assert measures.hits(sure, torch.tensor([0]), [2, 2], log_softmax_per_head=True)[1].tolist() == [True]


def test_forgetting_is_the_best_accuracy_before_minus_the_present_one():
    np.testing.assert_allclose(measures.forgetting(ACCURACY)[2], [0.3, 0.4, 0])
    np.testing.assert_allclose(measures.forgetting(ACCURACY)[0], 0)


def test_a_summary_of_a_run():
    found = measures.summary(ACCURACY, [2, 2, 6], untrained=np.array([0.1, 0.1, 0.1]))
    assert found == pytest.approx(
        {
            "average_accuracy": 1.7 / 3,
            "weighted_average_accuracy": (0.6 * 2 + 0.4 * 2 + 0.7 * 6) / 10,
            "forgetting": 0.35,
            "backward_transfer": -0.35,
            "forward_transfer": 0.05,
        }
    )


def test_prototypes_are_class_means():
    features, labels = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0]]), torch.tensor([0, 0, 1])
    centres = measures.prototypes(features, labels, 2)
    assert centres.tolist() == [[1.0, 0.0], [5.0, 5.0]]
    assert measures.distances(torch.tensor([[1.0, 3.0]]), centres).tolist() == [[3.0, pytest.approx(20**0.5)]]
    with pytest.raises(ValueError, match=r"classes \[2\] have no sample"):
        measures.prototypes(features, labels, 3)
    with pytest.raises(ValueError, match="labels must be classes 0 to 0"):
        measures.prototypes(features, labels, 1)
