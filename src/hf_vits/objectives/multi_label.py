"""Losses for inputs of which several labels may be true: labels (batch, classes), 1, 0, or NaN for unknown ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_vits.layers.multi_label import binary_cross_entropy, without_known


class AsymmetricLoss(nn.Module):
    """Focal loss that focuses negatives more than positives and drops very easy ones, summed over classes.

    Ridnik et al., "Asymmetric Loss For Multi-Label Classification", arXiv 2009.14119, equations 4 to 6. It is averaged
    over the batch.

    Args:
        gamma_positive, gamma_negative: focusing exponents of positive and negative labels.
        margin: probability that is subtracted from that of a negative label; below it the loss is zero.
    """

    def __init__(self, gamma_positive: float = 0.0, gamma_negative: float = 4.0, margin: float = 0.05):
        super().__init__()
        if min(gamma_positive, gamma_negative) < 0 or not 0 <= margin < 1:
            raise ValueError(
                "gamma_positive and gamma_negative must not be negative, and margin must lie in [0, 1), got "
                f"{gamma_positive}, {gamma_negative} and {margin}"
            )
        self.gamma_positive, self.gamma_negative, self.margin = gamma_positive, gamma_negative, margin

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        known, targets, logits = ~labels.isnan(), labels.nan_to_num().float(), logits.float()
        probability = logits.sigmoid()
        shifted = (probability - self.margin).clamp(min=0)
        positive = (1 - probability) ** self.gamma_positive * F.logsigmoid(logits)
        negative = shifted**self.gamma_negative * torch.log1p(-shifted.clamp(max=1 - 1e-7))
        losses = -(targets * positive + (1 - targets) * negative)
        return losses.masked_fill(~known, 0).sum() / len(logits), {}


class MaskedLabelLoss(nn.Module):
    """Binary cross-entropy of the labels that the model was not given, summed over them and averaged over the batch.

    The loss of C-Tran's label mask training (arXiv 2011.14027, section 3.3; QData/C-Tran, run_epoch.py).
    """

    def forward(self, logits: Tensor, labels: Tensor, known_labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            logits, labels: (batch, classes).
            known_labels: (batch, classes), what the model was given: 1 positive, 0 negative, -1 unknown.
        """
        return binary_cross_entropy(logits, without_known(labels, known_labels), "sum") / len(logits), {}
