"""Classification losses over logits (batch, classes).

Labels are class indices (batch,) of an integer type, or a distribution over classes (batch, classes) in floating
point, as MixUp and CutMix make them. Every loss returns `(loss, logged)`: a scalar and a dict of detached scalars.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def as_distribution(labels: Tensor, num_classes: int) -> Tensor:
    """Labels (batch,) as one-hot float rows (batch, classes); labels (batch, classes) as they are."""
    if labels.ndim == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(f"labels have {labels.shape[1]} classes, the logits have {num_classes}")
        return labels
    return F.one_hot(labels, num_classes).to(torch.get_default_dtype())


class CrossEntropy(nn.Module):
    """Softmax cross-entropy, mean over the batch; class indices or soft targets, with or without label smoothing.

    Smoothing mixes the targets with the uniform distribution over classes (Szegedy et al. 2016, section 7).
    It commutes with MixUp and CutMix, so smoothing mixed targets here equals mixing smoothed ones.
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing), {}


class BinaryCrossEntropy(nn.Module):
    """Each class as a yes-or-no question of its own, mean over all batch x classes elements.

    As DeiT III trains (facebookresearch/deit, engine.py): every class with any weight in the targets counts as
    present in full, so both images of a mixed pair are positives.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        present = as_distribution(labels, logits.shape[1]).gt(0).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, present), {}


class SigmoidCrossEntropy(nn.Module):
    """Binary cross-entropy of soft targets, summed over classes, mean over the batch.

    The loss of big_vision's ImageNet and JFT runs (google-research/big_vision, utils.py, `sigmoid_xent`).
    """

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        targets = as_distribution(labels, logits.shape[1]).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / logits.shape[0], {}


class CoSubLoss(nn.Module):
    """Co-training of two submodels, that is two passes with different stochastic depth (arXiv 2212.04884).

    Each pass learns from the labels and from the other's (detached) predictions, all four terms as binary
    cross-entropy with equal weight (facebookresearch/deit, engine.py).

    Args:
        binarize: count every class with any weight in the targets as present in full (the original's `--bce-loss`).
    """

    def __init__(self, binarize: bool = False):
        super().__init__()
        self.binarize = binarize

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """logits (2 x batch, classes), both passes stacked; labels (batch,) or (batch, classes)."""
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
