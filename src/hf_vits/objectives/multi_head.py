"""Classification loss of a model with several heads."""

from collections.abc import Sequence

from torch import Tensor, nn

from hf_vits.layers.label_heads import multi_head_cross_entropy


class MultiHeadCrossEntropy(nn.Module):
    """Softmax cross-entropy averaged over the heads, with optional label smoothing.

    Used by google-research/scenic for the nouns and verbs of Epic-Kitchens (projects/vivit/model.py,
    `ViViTMultiHeadClassificationModel`).

    Args:
        head_sizes: number of classes of each head.
        label_smoothing: fraction of the target that is spread evenly over the classes of a head.
    """

    def __init__(self, head_sizes: Sequence[int], label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.head_sizes = tuple(head_sizes)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            logits: (batch, sum(head_sizes)).
            labels: class indices (batch, heads), or probabilities of the shape of `logits`.
        """
        return multi_head_cross_entropy(logits, labels, self.head_sizes, self.label_smoothing), {}
