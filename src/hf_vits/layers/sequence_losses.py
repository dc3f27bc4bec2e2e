"""ESPnet's losses over sequences of logits, summed over each sequence and averaged over the batch."""

import math

import torch
import torch.nn.functional as F

from .arguments import check_ids

PADDING = -100  # label of padding, as everywhere in transformers


def at_least_single(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor in single precision; a tensor in double precision is unchanged."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def check_labels(labels: torch.Tensor, num_classes: int, batch: int) -> None:
    """Raise ValueError or TypeError for labels of another dtype or shape or outside the classes.

    Values are not checked under torch.compile.
    """
    check_ids("labels", labels)
    if labels.ndim != 2 or labels.shape[0] != batch or not labels.shape[1]:
        raise ValueError(
            f"labels must be (batch, tokens), for a batch of {batch} and at least one token, padded with {PADDING}, "
            f"got shape {tuple(labels.shape)}"
        )
    if torch.compiler.is_compiling():
        return
    if (largest := int(labels.max())) >= num_classes:
        raise ValueError(f"labels must be below vocab_size={num_classes}, or {PADDING} for padding, got {largest}")


def ctc_loss(logits: torch.Tensor, frame_mask: torch.Tensor | None, labels: torch.Tensor, blank: int) -> torch.Tensor:
    """Compute the CTC loss (Graves et al., 2006) as espnet2/asr/ctc.py, in single precision.

    A sequence with too few frames for its labels counts as 0.

    Args:
        logits: (batch, frames, classes).
        frame_mask: (batch, frames), 1 for frames, 0 for padding at the end; None for no padding.
        labels: (batch, tokens), padded at the end with negative numbers.
        blank: class index of CTC's blank.
    """
    log_probabilities = at_least_single(logits).log_softmax(dim=-1).float().transpose(0, 1)
    if frame_mask is None:
        frame_mask = torch.ones_like(logits[..., 0], dtype=torch.long)
    lengths, num_labels = frame_mask.sum(dim=1), (labels >= 0).sum(dim=1)
    with torch.autocast(logits.device.type, enabled=False):
        loss = F.ctc_loss(
            log_probabilities, labels.clamp(min=0), lengths, num_labels, blank, reduction="sum", zero_infinity=True
        )
    return loss / len(logits)


def smoothed_divergence(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Compute the KL divergence to smoothed targets: 1 - smoothing for the right class, the rest shared by the others.

    espnet/nets/pytorch_backend/transformer/label_smoothing_loss.py. It differs from PyTorch's cross-entropy with label
    smoothing in the right class's probability, and by a constant.

    Args:
        logits: (batch, tokens, classes).
        labels: (batch, tokens), negative for tokens to leave out.
    """
    shared = smoothing / (logits.shape[-1] - 1)
    log_probabilities = at_least_single(logits).log_softmax(dim=-1)
    right = log_probabilities.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    cross_entropy = -(1 - smoothing - shared) * right - shared * log_probabilities.sum(dim=-1)
    entropy = -sum(count * p * math.log(p) for count, p in ((1, 1 - smoothing), (logits.shape[-1] - 1, shared)) if p)
    return ((cross_entropy - entropy) * (labels >= 0)).sum() / len(logits)
