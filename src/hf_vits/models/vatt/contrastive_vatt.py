"""Contrastive losses between modalities, with several candidates for a clip (MIL-NCE) and masks.

Akbari et al., arXiv 2104.11178, section 3.4; google-research/vatt, utils/train/objectives.py. Embeddings are compared
by cosine similarity; those of all processes are negatives.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import normalize

from .configuration_vatt import VattConfig

MASKED = 1e9


def is_distributed() -> bool:
    """Return whether there are several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class Gather(torch.autograd.Function):
    """Concatenation over processes; the gradient is the sum of all processes' gradients of the own part."""

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather(value: Tensor) -> Tensor:
    """Concatenate (batch, ...) of all processes in the order of their ranks, with gradient."""
    gathered: Any = Gather.apply(value) if is_distributed() else value
    return gathered


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, with gradient."""
    return gather(value[None]).mean(0)


def similarities(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return cosine similarities / temperature of (batch, n, channels) and (others, m, channels).

    Returns:
        (batch, others, n * m).
    """
    return torch.einsum("bnd,cmd->bcnm", first, second).flatten(2) / temperature


def masked_mean(losses: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of losses (batch,) over those whose mask is 1; zero if there are none."""
    if mask is None:
        return losses.mean()
    return (losses * mask).sum() / mask.sum().clamp(min=1)


def contrastive_loss(
    video: Tensor, other: Tensor, temperature: float, mask: Tensor | None = None, symmetric: bool = False
) -> Tensor:
    """Return the NCE loss of clips and another modality.

    The candidates of a clip are its positives. In the asymmetric loss, the similarities of a clip to all candidates
    and of its candidates to all clips are one set, from which the positives must stand out; they are in it twice. In
    the symmetric loss each is a set of its own, and the losses are added.

    Args:
        video: (batch, channels).
        other: (batch, channels), or (batch, candidates, channels).
        mask: (batch,), 0 for clips without the other modality, which then are no positives, no negatives, and have no
            loss; None for none.
        symmetric: whether to compute the symmetric loss.
    """
    video = normalize(video.float(), dim=-1, eps=1e-6)[:, None]
    other = normalize(other.float(), dim=-1, eps=1e-6)
    other = other[:, None] if other.ndim == 2 else other
    all_video, all_other = gather(video), gather(other)
    positives = torch.einsum("bnd,bmd->bnm", video, other).flatten(1) / temperature
    to_others = similarities(video, all_other, temperature)
    to_videos = similarities(other, all_video, temperature)
    if mask is not None:
        mask = mask.reshape(-1).to(video)
        to_others = to_others - MASKED * (1 - gather(mask))[:, None]
        if symmetric:
            to_others = to_others - MASKED * (1 - mask)[:, None, None]
        to_videos = to_videos - MASKED * (1 - mask)[:, None, None]
    to_others, to_videos, positives = to_others.flatten(1), to_videos.flatten(1), positives.logsumexp(1)
    if symmetric:
        losses = to_others.logsumexp(1) + to_videos.logsumexp(1) - 2 * positives
    else:
        losses = torch.cat([to_others, to_videos], dim=1).logsumexp(1) - positives
    return masked_mean(losses, mask)


def modality_losses(
    embeds: Mapping[str, Tensor | None],
    config: VattConfig,
    text_mask: Tensor | None = None,
    audio_mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return `loss`, the weighted mean of both losses, and `video_text_loss` and `video_audio_loss`, weighted.

    Args:
        embeds: `video_audio_embeds`, `video_text_embeds`, `audio_embeds` and `text_embeds`, as `VattModel` returns
            them; without sounds or texts, their loss is zero.
        text_mask, audio_mask: (batch,), 0 for clips without texts or without sound; None for none.

    Raises:
        ValueError: the batches do not fit together.
    """
    losses: dict[str, Tensor] = {}
    weights = {"text": config.video_text_weight, "audio": config.video_audio_weight}
    for name, mask in {"text": text_mask, "audio": audio_mask}.items():
        video, other = embeds[f"video_{name}_embeds"], embeds.get(f"{name}_embeds")
        assert video is not None
        if other is None:
            losses[f"video_{name}_loss"] = video.new_zeros(())
            continue
        check_batches(len(video), len(other), mask, name)
        candidates, is_symmetric = other.unflatten(0, (len(video), -1)), config.loss_type == "symmetric_nce"
        loss = contrastive_loss(video, candidates, config.temperature, mask, is_symmetric)
        losses[f"video_{name}_loss"] = weights[name] * loss
    total = torch.stack(list(losses.values())).sum()
    return {"loss": total / sum(weights.values()), **losses}


def check_batches(clips: int, others: int, mask: Tensor | None, name: str) -> None:
    """Raise ValueError unless there are as many sounds as clips, as many texts for each, and a mask of each clip."""
    if others % clips or (name == "audio" and others != clips):
        wanted = "as many texts for each of them" if name == "text" else "as many sounds"
        raise ValueError(f"{clips} clips need {wanted}, got {others}")
    if mask is not None and mask.numel() != clips:
        raise ValueError(f"{name}_mask must have a value for each of {clips} clips, got {mask.numel()}")


__all__ = ["contrastive_loss", "modality_losses"]
