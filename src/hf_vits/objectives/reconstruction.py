"""Losses of painted pixels: MAE (arXiv 2111.06377) and SiT (arXiv 2104.03602)."""

import torch
from torch import Tensor, nn


class MaskedPatchRegression(nn.Module):
    """Squared error of removed patches, mean over them (facebookresearch/mae, models_mae.py, `forward_loss`).

    Args:
        normalize_targets: bring every patch to mean 0 and (unbiased) variance 1 before it is compared.
    """

    EPSILON = 1e-6

    def __init__(self, normalize_targets: bool = False):
        super().__init__()
        self.normalize_targets = normalize_targets

    def forward(self, predicted: Tensor, patches: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """predicted, patches (batch, patches, values); mask (batch, patches), True or 1 where a patch was removed.

        The mean is taken over the removed patches of the whole batch, not image by image.
        """
        if predicted.shape != patches.shape or mask.shape != patches.shape[:2]:
            raise ValueError(
                "predicted and patches must be (batch, patches, values) and mask (batch, patches), got "
                f"{tuple(predicted.shape)}, {tuple(patches.shape)} and {tuple(mask.shape)}"
            )
        errors = self.errors(predicted, patches)
        mask = mask.to(errors.dtype)
        return (errors * mask).sum() / mask.sum(), {}

    def errors(self, predicted: Tensor, patches: Tensor) -> Tensor:
        """Mean squared error of each patch, (batch, patches), removed or not."""
        patches = patches.float()
        if self.normalize_targets:
            variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
            patches = (patches - mean) / (variance + self.EPSILON).sqrt()
        return (predicted.float() - patches).square().mean(dim=-1)


class AbsoluteReconstruction(nn.Module):
    """Mean absolute error of pixels: all, or those that were corrupted.

    Args:
        corrupted_only: whether pixels that were not corrupted are left out.
    """

    def __init__(self, corrupted_only: bool):
        super().__init__()
        self.corrupted_only = corrupted_only

    def forward(self, painted: Tensor, clean: Tensor, corrupted: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """painted, clean (batch, channels, height, width); corrupted the same or with one channel, boolean."""
        errors = (painted - clean).abs()
        if not self.corrupted_only:
            return errors.mean(), {}
        if corrupted is None:
            raise ValueError("corrupted_only=True needs the mask of corrupted pixels")
        mask = corrupted.to(errors.dtype).expand_as(errors)
        return (errors * mask).sum() / mask.sum(), {}
