"""Classification losses over logits (batch, classes).

Labels are class indices (batch,) of an integer type, or probabilities (batch, classes) in floating point, as from
MixUp and CutMix. Where several classes of an input may be true, those that are NaN are unknown and count in none of
the binary losses. Every loss returns `(loss, logged)`: a scalar and a dict of detached scalars.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_vits.layers.multi_label import binary_cross_entropy


def as_distribution(labels: Tensor, num_classes: int) -> Tensor:
    """Convert class indices (batch,) to one-hot rows (batch, classes); probabilities are returned unchanged."""
    if labels.ndim == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(f"labels have {labels.shape[1]} classes, the logits have {num_classes}")
        return labels
    return F.one_hot(labels, num_classes).to(torch.get_default_dtype())


class CrossEntropy(nn.Module):
    """Softmax cross-entropy, averaged over the batch, with optional label smoothing.

    Smoothing mixes the targets with the uniform distribution over classes (Szegedy et al. 2016, section 7). Smoothing
    targets mixed by MixUp or CutMix gives the same as mixing smoothed targets. Class weights multiply the terms of the
    classes; the mean is over samples, not over weights, so that parts of a batch add up.

    Attributes:
        class_weights: (classes,), or None for equal weights.
    """

    class_weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, class_weights: Tensor | None = None):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.class_weights is None:
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing), {}
        return self.weighted(logits.log_softmax(1), labels), {}

    def weighted(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over samples of the weighted, smoothed targets times negative log-probabilities."""
        num_classes = log_probabilities.shape[1]
        targets = as_distribution(labels, num_classes).to(log_probabilities.dtype)
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        if self.class_weights is not None:
            targets = targets * self.class_weights.to(log_probabilities)
        return -(targets * log_probabilities).sum(1).mean()


class FocalLoss(CrossEntropy):
    """Softmax cross-entropy whose terms are multiplied by (1 - probability) ** gamma (arXiv 1708.02002).

    Samples that the model classifies well count less, rare and hard ones more.
    """

    def __init__(self, gamma: float = 2.0, label_smoothing: float = 0.0, class_weights: Tensor | None = None):
        super().__init__(label_smoothing, class_weights)
        if gamma < 0:
            raise ValueError(f"gamma must not be negative, got {gamma}")
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logs = logits.log_softmax(1)
        # The derivative of 0 ** gamma is not finite below gamma 1, where the probability rounds to 1.
        return self.weighted((-torch.expm1(logs)).clamp(min=1e-8) ** self.gamma * logs, labels), {}


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Return weights (classes,) inversely proportional to the classes' frequencies, whose mean over samples is 1.

    Classes without a sample have the weight of a class with one.
    """
    counts = torch.bincount(labels, minlength=num_classes).clamp(min=1)
    return len(labels) / (num_classes * counts.to(torch.get_default_dtype()))


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of each class, averaged over batch and classes.

    As in DeiT III (facebookresearch/deit, engine.py), every class with a positive target counts as fully present, so
    that both images of a mixed pair are positives.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        targets = as_distribution(labels, logits.shape[1])
        present = targets.gt(0).to(logits.dtype).masked_fill(targets.isnan(), torch.nan)
        return binary_cross_entropy(logits, present), {}


class SigmoidCrossEntropy(nn.Module):
    """Binary cross-entropy of soft targets, summed over classes and averaged over the batch.

    The loss of big_vision's ImageNet and JFT runs (google-research/big_vision, utils.py, `sigmoid_xent`).
    """

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        targets = as_distribution(labels, logits.shape[1]).to(logits.dtype)
        return binary_cross_entropy(logits, targets, "sum") / logits.shape[0], {}


class FrequencyBalancedCrossEntropy(nn.Module):
    """Binary cross-entropy of several labels, in which clips with labels that are rare in the batch count more.

    A sample's loss is summed over classes and weighted by the mean, over its labels, of 1 / (samples of the batch with
    that label). google-research/vatt, experiments/finetune.py.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of logits and labels (batch, classes), 1 for the classes of a sample."""
        targets = as_distribution(labels, logits.shape[1]).to(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
        rarity = targets / targets.sum(0).clamp(min=1)
        weights = rarity.sum(1) / targets.sum(1).clamp(min=1)
        return (losses * weights).mean(), {}


class CoSubLoss(nn.Module):
    """Co-training of two submodels, two forward passes with different stochastic depth (arXiv 2212.04884).

    Each pass is trained on the labels and on the detached predictions of the other pass: four binary cross-entropies
    of equal weight (facebookresearch/deit, engine.py).

    Args:
        binarize: whether every class with a positive target counts as fully present (the original's `--bce-loss`).
    """

    def __init__(self, binarize: bool = False):
        super().__init__()
        self.binarize = binarize

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            logits: (2 * batch, classes), both passes stacked.
            labels: (batch,) or (batch, classes).

        Returns:
            The loss, and its parts `base_loss` and `mutual_loss`.
        """
        if logits.shape[0] != 2 * labels.shape[0]:
            raise ValueError(
                f"CoSub needs the logits of two passes stacked, 2 x {labels.shape[0]} rows; got {logits.shape[0]}"
            )
        first, second = logits.chunk(2)
        targets = as_distribution(labels, logits.shape[1]).to(logits.dtype)
        if self.binarize:
            targets = targets.gt(0).to(logits.dtype)
        bce = F.binary_cross_entropy_with_logits
        base = (bce(first, targets) + bce(second, targets)) / 2
        mutual = (bce(first, second.detach().sigmoid()) + bce(second, first.detach().sigmoid())) / 2
        return (base + mutual) / 2, {"base_loss": base.detach(), "mutual_loss": mutual.detach()}
