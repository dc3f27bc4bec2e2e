"""The loss of a model that answers several questions at once."""

from collections.abc import Sequence

from torch import Tensor, nn

from hf_vits.layers.label_heads import multi_head_cross_entropy


class MultiHeadCrossEntropy(nn.Module):
    """Mean over the heads of their softmax cross-entropies, with or without label smoothing.

    As google-research/scenic trains on the nouns and verbs of Epic-Kitchens (projects/vivit/model.py,
    `ViViTMultiHeadClassificationModel`).

    Args:
        head_sizes: how many classes each head has.
        label_smoothing: part of the target that is spread evenly over the classes of a head.
    """

    def __init__(self, head_sizes: Sequence[int], label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.head_sizes = tuple(head_sizes)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """logits (batch, sum(head_sizes)); labels (batch, heads) class indices, or distributions as the logits."""
        return multi_head_cross_entropy(logits, labels, self.head_sizes, self.label_smoothing), {}
