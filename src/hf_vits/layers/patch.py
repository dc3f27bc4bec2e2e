"""From images to a grid of tokens."""

import torch
from torch import nn


def pair(value: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or as two."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def check_pixel_values(pixel_values: torch.Tensor, num_channels: int) -> None:
    """Raise ValueError or TypeError unless `pixel_values` is a floating (batch, num_channels, height, width)."""
    if pixel_values.ndim != 4:
        raise ValueError(
            f"pixel_values must be (batch, {num_channels}, height, width), got shape {tuple(pixel_values.shape)}; "
            "a single image needs a leading batch axis: pixel_values[None]"
        )
    if pixel_values.shape[1] != num_channels:
        raise ValueError(
            f"pixel_values must have num_channels={num_channels} channels on axis 1, got shape "
            f"{tuple(pixel_values.shape)}; channels-last images need permute(0, 3, 1, 2)"
        )
    if not pixel_values.is_floating_point():
        raise TypeError(
            f"pixel_values must be floating point, got {pixel_values.dtype}; run the model's image processor first, "
            "which rescales and normalises"
        )


class PatchEmbedding(nn.Module):
    """Non-overlapping patches, each projected to a token (Dosovitskiy et al., arXiv 2010.11929, section 3.1)."""

    def __init__(self, num_channels: int, hidden_size: int, patch_size: tuple[int, int]):
        super().__init__()
        self.num_channels = num_channels
        self.patch_size = patch_size
        self.projection = nn.Conv2d(num_channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in tokens of an image of this size in pixels; ValueError where patches do not fill it."""
        rows, columns = self.patch_size
        if height < rows or width < columns or height % rows or width % columns:
            raise ValueError(
                f"an image of {height}x{width} pixels cannot be cut into patches of {rows}x{columns}: height must be "
                f"a positive multiple of {rows} and width of {columns}; resize or pad it, as the image processor does"
            )
        return height // rows, width // columns

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, num_channels, height, width) to (batch, hidden_size, rows, columns)."""
        check_pixel_values(pixel_values, self.num_channels)
        self.grid(*pixel_values.shape[-2:])
        return self.projection(pixel_values.to(self.projection.weight.dtype))


class PatchDropout(nn.Module):
    """Keep a random part of the patch tokens of each image while training (arXiv 2208.07220).

    Args:
        rate: the part that is dropped; at least one token stays.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, channels) to (batch, kept, channels), in the original order; unchanged in eval mode."""
        if not self.training or self.rate == 0:
            return tokens
        batch, count, channels = tokens.shape
        kept = max(1, round(count * (1 - self.rate)))
        order = torch.rand(batch, count, device=tokens.device).argsort(dim=1)[:, :kept].sort(dim=1).values
        return tokens.gather(1, order[..., None].expand(-1, -1, channels))
