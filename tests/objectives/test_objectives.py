"""Losses against their formulas, written out in float64."""

import numpy as np
import pytest
import torch

from hf_vits.objectives import BinaryCrossEntropy, CoSubLoss, CrossEntropy, DistillationLoss, SigmoidCrossEntropy

BATCH, CLASSES = 6, 7


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def binary(x, targets):
    """Elementwise binary cross-entropy of logits."""
    return np.logaddexp(0, x) - targets * x


@pytest.fixture
def logits():
    return torch.randn(BATCH, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def indices():
    return torch.tensor([0, 3, 6, 3, 1, 2])


@pytest.fixture
def mixed(indices):
    one_hot = torch.eye(CLASSES, dtype=torch.float64)[indices]
    return 0.3 * one_hot + 0.7 * one_hot.roll(1, 0)


def close(loss, expected):
    assert loss.ndim == 0
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_indices_equals_that_of_one_hot_rows(logits, indices, smoothing):
    loss, _ = CrossEntropy(smoothing)(logits, indices)
    targets = (1 - smoothing) * np.eye(CLASSES)[indices] + smoothing / CLASSES
    close(loss, -(targets * log_softmax(logits.numpy())).sum(axis=1).mean())
    close(CrossEntropy(smoothing)(logits, torch.eye(CLASSES, dtype=torch.float64)[indices])[0], loss.item())


def test_smoothing_a_mixture_is_mixing_smoothed_targets(logits, mixed):
    loss, _ = CrossEntropy(0.1)(logits, mixed)
    close(loss, -((0.9 * mixed.numpy() + 0.1 / CLASSES) * log_softmax(logits.numpy())).sum(axis=1).mean())


def test_binary_counts_both_classes_of_a_mixture_in_full(logits, mixed):
    loss, _ = BinaryCrossEntropy()(logits, mixed)
    close(loss, binary(logits.numpy(), mixed.numpy() > 0).mean())


def test_sigmoid_sums_over_classes_and_keeps_targets_soft(logits, mixed, indices):
    close(SigmoidCrossEntropy()(logits, mixed)[0], binary(logits.numpy(), mixed.numpy()).sum(axis=1).mean())
    close(
        SigmoidCrossEntropy()(logits, indices)[0], binary(logits.numpy(), np.eye(CLASSES)[indices]).sum(axis=1).mean()
    )


@pytest.mark.parametrize("binarize", [False, True])
def test_cosub(logits, mixed, binarize):
    logits.requires_grad_()
    loss, logged = CoSubLoss(binarize)(logits, mixed[:3])
    x = logits.detach().numpy()
    a, b, targets = x[:3], x[3:], mixed[:3].numpy()
    targets = (targets > 0).astype(float) if binarize else targets
    sigmoid_a, sigmoid_b = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
    terms = [binary(a, targets), binary(b, targets), binary(a, sigmoid_b), binary(b, sigmoid_a)]
    close(loss, sum(term.mean() for term in terms) / 4)
    close(logged["base_loss"], (terms[0].mean() + terms[1].mean()) / 2)
    loss.backward()
    # Each pass is a fixed target of the other: no gradient flows through the sigmoid.
    expected = (2 * sigmoid_a - targets - sigmoid_b) / (4 * a.size)
    np.testing.assert_allclose(logits.grad[:3].numpy(), expected, atol=1e-12)


def test_hard_distillation_follows_the_decision_of_the_teacher(logits, indices):
    student, teacher = logits.flip(0), logits.roll(2, 1)
    loss, logged = DistillationLoss(CrossEntropy(), "hard", alpha=0.25, temperature=9.0)(
        logits, student, indices, teacher
    )
    rows = np.arange(BATCH)
    base = -log_softmax(logits.numpy())[rows, indices].mean()
    distilled = -log_softmax(student.numpy())[rows, teacher.numpy().argmax(axis=1)].mean()
    close(loss, 0.75 * base + 0.25 * distilled)
    close(logged["base_loss"], base)
    close(logged["distillation_loss"], distilled)


def test_soft_distillation_divides_by_the_number_of_elements(logits, indices):
    student, teacher, temperature = logits.flip(0), logits.roll(2, 1).requires_grad_(), 3.0
    loss, _ = DistillationLoss(CrossEntropy(0.1), "soft", 0.5, temperature)(logits, student, indices, teacher)
    log_q, log_p = (log_softmax(x.detach().numpy() / temperature) for x in (student, teacher))
    divergence = (np.exp(log_p) * (log_p - log_q)).sum() * temperature**2 / (BATCH * CLASSES)
    close(loss, 0.5 * CrossEntropy(0.1)(logits, indices)[0].item() + 0.5 * divergence)
    assert not loss.requires_grad  # the teacher learns nothing


def test_no_distillation_is_the_base_loss(logits, indices):
    loss, logged = DistillationLoss(CrossEntropy(), "none")(logits, None, indices, None)
    assert torch.equal(loss, CrossEntropy()(logits, indices)[0])
    assert logged == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(1.0), r"label_smoothing must be in \[0, 1\), got 1.0"),
        (lambda: DistillationLoss(CrossEntropy(), "medium"), "'none', 'soft' or 'hard', got 'medium'"),
        (lambda: DistillationLoss(CrossEntropy(), "soft", alpha=2), "alpha must be in"),
        (lambda: DistillationLoss(CrossEntropy(), "soft", temperature=0), "temperature must be positive"),
        (lambda: CoSubLoss()(torch.zeros(5, 3), torch.zeros(5, 3)), "2 x 5 rows; got 5"),
        (lambda: BinaryCrossEntropy()(torch.zeros(5, 3), torch.zeros(5, 4)), "4 classes, the logits have 3"),
        (
            lambda: DistillationLoss(CrossEntropy())(torch.zeros(2, 3), None, torch.tensor([0, 1]), None),
            "needs both distillation_logits and teacher_logits",
        ),
        (
            lambda: DistillationLoss(CrossEntropy())(
                torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1]), torch.zeros(2, 4)
            ),
            "both must name the same classes",
        ),
    ],
)
def test_wrong_settings_say_so(make, message):
    with pytest.raises(ValueError, match=message):
        make()
