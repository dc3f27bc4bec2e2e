"""Reconstruction losses of MAE (arXiv 2111.06377), MILAN (arXiv 2208.06049) and SiT (arXiv 2104.03602)."""

import torch
from torch import Tensor, nn


class MaskedPatchRegression(nn.Module):
    """Mean squared error of the removed patches (facebookresearch/mae, models_mae.py, `forward_loss`).

    Args:
        normalize_targets: whether target patches are normalised to mean 0 and (unbiased) variance 1.
    """

    EPSILON = 1e-6

    def __init__(self, normalize_targets: bool = False):
        super().__init__()
        self.normalize_targets = normalize_targets

    def forward(self, predicted: Tensor, patches: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, averaged over the removed patches of the whole batch.

        Args:
            predicted, patches: (batch, patches, values).
            mask: (batch, patches), True or 1 where a patch was removed.
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
        """Return the mean squared error of every patch, removed or not: (batch, patches)."""
        patches = patches.float()
        if self.normalize_targets:
            variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
            patches = (patches - mean) / (variance + self.EPSILON).sqrt()
        return (predicted.float() - patches).square().mean(dim=-1)


class FeatureRegression(nn.Module):
    """Squared distance of L2-normalised features (zejiangh/MILAN, models_milan.py, `forward_loss`)."""

    def forward(self, predicted: Tensor, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss, 2 - 2 * cosine similarity, averaged over tokens and batch.

        Args:
            predicted, features: (batch, tokens, channels).
        """
        if predicted.shape != features.shape:
            raise ValueError(
                "predicted and features must be (batch, tokens, channels), both the same, got "
                f"{tuple(predicted.shape)} and {tuple(features.shape)}"
            )
        predicted, features = (nn.functional.normalize(tokens.float(), dim=-1) for tokens in (predicted, features))
        return 2 - 2 * (predicted * features).sum(dim=-1).mean(), {}


class AbsoluteReconstruction(nn.Module):
    """Mean absolute error of all pixels, or of the corrupted pixels.

    Args:
        corrupted_only: whether only corrupted pixels count.
    """

    def __init__(self, corrupted_only: bool):
        super().__init__()
        self.corrupted_only = corrupted_only

    def forward(self, painted: Tensor, clean: Tensor, corrupted: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            painted, clean: reconstructed and clean images (batch, channels, height, width).
            corrupted: boolean, of the same shape or with one channel; needed with `corrupted_only`.
        """
        errors = (painted - clean).abs()
        if not self.corrupted_only:
            return errors.mean(), {}
        if corrupted is None:
            raise ValueError("corrupted_only=True needs the mask of corrupted pixels")
        mask = corrupted.to(errors.dtype).expand_as(errors)
        return (errors * mask).sum() / mask.sum(), {}
