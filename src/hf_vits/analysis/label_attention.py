"""What the label tokens of C-Tran attend to."""

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def label_attention(model: Any, pixel_values: Tensor, known_labels: Tensor | None = None) -> Tensor:
    """Return the attention between labels (layers, labels, labels), averaged over heads and images.

    Row i holds how much the token of label i attends to the token of each label; what it attends to in the image is
    left out, so that rows sum up to less than one.

    Args:
        model: a `CTranModel` or `CTranForImageClassification`.
        pixel_values: (batch, channels, height, width).
        known_labels: (batch, labels), see `CTranModel.forward`; None: all are unknown.

    Raises:
        TypeError: the model has no label tokens.
    """
    if "known_labels" not in getattr(model, "own_arguments", ()):
        raise TypeError(f"expected a model with label tokens, such as CTranModel, got {type(model).__name__}")
    before, was_training = model.config._attn_implementation, model.training
    model.eval().set_attn_implementation("eager")
    try:
        attentions = model(pixel_values, known_labels=known_labels, output_attentions=True).attentions
    finally:
        model.train(was_training).set_attn_implementation(before)
    count = model.config.num_labels
    return torch.stack([attention[:, :, :count, :count].mean(dim=(0, 1)) for attention in attentions])
