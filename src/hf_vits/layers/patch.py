"""Embeddings of images and clips as grids of tokens, and operations on patches."""

from collections.abc import Sequence

import torch
from torch import nn

from .convolution import LayerNorm2d


def check_pixel_values(pixel_values: torch.Tensor | None, num_channels: int, clips: bool = False) -> None:
    """Raise ValueError or TypeError unless `pixel_values` is a floating (batch, num_channels, height, width).

    Args:
        clips: whether (batch, frames, num_channels, height, width) is expected instead.
    """
    if pixel_values is None:
        raise ValueError("You have to specify pixel_values: (batch, num_channels, height, width)")
    if clips:
        if pixel_values.ndim != 5 or pixel_values.shape[2] != num_channels:
            raise ValueError(
                f"pixel_values must be clips (batch, frames, {num_channels}, height, width), got shape "
                f"{tuple(pixel_values.shape)}; an image is a clip of one frame: pixel_values[:, None]"
            )
    elif pixel_values.ndim != 4:
        raise ValueError(
            f"pixel_values must be (batch, {num_channels}, height, width), got shape {tuple(pixel_values.shape)}; "
            "a single image needs a leading batch axis: pixel_values[None]"
        )
    elif pixel_values.shape[1] != num_channels:
        raise ValueError(
            f"pixel_values must have num_channels={num_channels} channels on axis 1, got shape "
            f"{tuple(pixel_values.shape)}; channels-last images need permute(0, 3, 1, 2)"
        )
    if not pixel_values.is_floating_point():
        raise TypeError(
            f"pixel_values must be floating point, got {pixel_values.dtype}; run the model's image processor first, "
            "which rescales and normalises"
        )


def patch_grid(height: int, width: int, patch_size: Sequence[int]) -> tuple[int, int]:
    """Return (height, width) in patches for a size in pixels; ValueError where patches do not fill the image."""
    rows, columns = patch_size
    if height < rows or width < columns or height % rows or width % columns:
        raise ValueError(
            f"an image of {height}x{width} pixels cannot be cut into patches of {rows}x{columns}: height must be "
            f"a positive multiple of {rows} and width of {columns}; resize or pad it, as the image processor does"
        )
    return height // rows, width // columns


def square_grid(num_patches: int, size: Sequence[int]) -> tuple[int, int]:
    """Return (rows, columns) of `num_patches` square patches that fill an image of `size` (height, width).

    Raises:
        ValueError: no rows and columns of squares fill the image with so many.
    """
    rows = round((num_patches * size[0] / size[1]) ** 0.5)
    if rows == 0 or num_patches % rows:
        raise ValueError(
            f"an image of {size[0]}x{size[1]} pixels has no grid of {num_patches} square patches: resize or pad it to "
            "a multiple of the patch size"
        )
    return rows, num_patches // rows


class PatchEmbedding(nn.Module):
    """Non-overlapping patches, each projected to a token (Dosovitskiy et al., arXiv 2010.11929, section 3.1)."""

    def __init__(self, num_channels: int, hidden_size: int, patch_size: tuple[int, int]):
        super().__init__()
        self.num_channels = num_channels
        self.patch_size = patch_size
        self.projection = nn.Conv2d(num_channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) in tokens for a size in pixels; ValueError where patches do not fill the image."""
        return patch_grid(height, width, self.patch_size)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, height, width) to (batch, hidden_size, rows, columns)."""
        check_pixel_values(pixel_values, self.num_channels)
        self.grid(*pixel_values.shape[-2:])
        return self.projection(pixel_values.to(self.projection.weight.dtype))


class TubeletConv(nn.Conv3d):
    """3-d convolution of tubelets that do not overlap (stride equal to kernel size), computed as a matrix product."""

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Map (batch, num_channels, frames, height, width) to (batch, hidden_size, frames, rows, columns).

        In memory the channels come last, so that the tokens need no transpose.
        """
        depth, height, width = self.kernel_size
        tubelets = clips.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(2, (-1, depth))
        tubelets = tubelets.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        return nn.functional.linear(tubelets, self.weight.flatten(1), self.bias).movedim(-1, 1)


class TubeletEmbedding(nn.Module):
    """Non-overlapping tubelets of a clip, each projected to a token (ViViT, arXiv 2103.15691, section 3.2).

    Args:
        tubelet_size: (frames, height, width).
    """

    def __init__(self, num_channels: int, hidden_size: int, tubelet_size: tuple[int, int, int]):
        super().__init__()
        self.num_channels = num_channels
        self.tubelet_size = tubelet_size
        self.projection = TubeletConv(num_channels, hidden_size, kernel_size=tubelet_size, stride=tubelet_size)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return (frames, height, width) in tokens for a clip; ValueError where tubelets do not fill it."""
        depth, *patch_size = self.tubelet_size
        if frames < depth or frames % depth:
            raise ValueError(
                f"a clip of {frames} frames cannot be cut into tubelets of {depth}: the number of frames must be a "
                f"positive multiple of {depth}"
            )
        return frames // depth, *patch_grid(height, width, patch_size)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Map (batch, frames, num_channels, height, width) to (batch, frames, rows, columns, hidden_size)."""
        check_pixel_values(pixel_values, self.num_channels, clips=True)
        self.grid(pixel_values.shape[1], *pixel_values.shape[-2:])
        return self.projection(pixel_values.to(self.projection.weight.dtype).transpose(1, 2)).movedim(1, -1)


class ConvEmbedding(nn.Module):
    """Patch embedding by a convolution with layer norm; pixels at the border that fill no patch are left out.

    Args:
        stride: None for `kernel_size`, so that patches do not overlap.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_size: int,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        eps: float = 1e-5,
    ):
        super().__init__()
        stride = kernel_size if stride is None else stride
        self.smallest_side = max(kernel_size - 2 * padding, 1)
        self.projection = nn.Conv2d(in_channels, hidden_size, kernel_size, stride, padding)
        self.norm = LayerNorm2d(hidden_size, eps=eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to (batch, hidden_size, rows, columns); ValueError if no patch fits."""
        height, width = hidden_states.shape[-2:]
        if min(height, width) < self.smallest_side:
            raise ValueError(
                f"no patch fits into an image or feature map of {height}x{width}: height and width must be at least "
                f"{self.smallest_side}"
            )
        return self.norm(self.projection(hidden_states.to(self.projection.weight.dtype)))


class PatchMerging(nn.Module):
    """Patch merging: concatenate 2 x 2 tokens, normalise and project them (Swin, arXiv 2103.14030, section 3.1).

    A feature map of odd height or width is padded with zeros below or to the right.
    """

    def __init__(self, in_channels: int, hidden_size: int, eps: float = 1e-5):
        super().__init__()
        self.norm = nn.LayerNorm(4 * in_channels, eps=eps)
        self.reduction = nn.Linear(4 * in_channels, hidden_size, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, height, width) to (batch, hidden_size, height / 2, width / 2), rounded up."""
        height, width = hidden_states.shape[-2:]
        if height % 2 or width % 2:
            hidden_states = nn.functional.pad(hidden_states, (0, width % 2, 0, height % 2))
        # Axes: batch, rows, 2, columns, 2, channels. Swin concatenates the 2 x 2 tokens column by column.
        cells = hidden_states.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        merged = cells.permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(merged)).permute(0, 3, 1, 2)


class PatchDropout(nn.Module):
    """Drop a random fraction of the patch tokens of each image in training (arXiv 2208.07220).

    Args:
        rate: fraction of tokens that is dropped; at least one token is kept.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (batch, tokens, channels) to (batch, kept, channels), in the original order; unchanged in eval mode."""
        if not self.training or self.rate == 0:
            return tokens
        batch, count, _ = tokens.shape
        kept = max(1, round(count * (1 - self.rate)))
        order = torch.rand(batch, count, device=tokens.device).argsort(dim=1)[:, :kept].sort(dim=1).values
        return take_tokens(tokens, order)


def take_tokens(tokens: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Select from tokens (batch, tokens, channels) those at indices (batch, taken): (batch, taken, channels)."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[-1]))


def cut_patches(images: torch.Tensor, patch_size: tuple[int, int]) -> torch.Tensor:
    """Cut images (batch, channels, height, width) into patches (batch, patches, rows * columns * channels).

    The values of a patch are in row-major order, channels last.
    """
    height, width = images.shape[-2:]
    patch_grid(height, width, patch_size)
    cells = images.unflatten(3, (-1, patch_size[1])).unflatten(2, (-1, patch_size[0]))
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def join_patches(patches: torch.Tensor, grid: tuple[int, int], patch_size: tuple[int, int]) -> torch.Tensor:
    """Join patches to images (batch, channels, height, width): the inverse of `cut_patches`."""
    cells = patches.unflatten(2, (*patch_size, -1)).unflatten(1, grid)
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
