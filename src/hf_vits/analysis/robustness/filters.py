"""Filters over batches of images that corruptions are made of: Gaussian blur, convolution, resizing, sampling."""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


@cache
def gaussian_matrix(size: int, sigma: float, truncate: float, mode: str) -> Tensor:
    """Return the matrix (size, size) that filters a row of pixels with a Gaussian, as scipy.ndimage.gaussian_filter.

    Args:
        sigma: standard deviation in pixels.
        truncate: where the kernel ends, in standard deviations.
        mode: beyond the border "nearest" repeats the last pixel, "reflect" mirrors the row at the outer edge of it.
    """
    radius = int(truncate * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device="cpu")
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    weights /= weights.sum()
    places = torch.arange(size, device="cpu")[:, None] + offsets
    if mode == "nearest":
        places = places.clamp(0, size - 1)
    else:
        places = places % (2 * size)
        places = torch.minimum(places, 2 * size - 1 - places)
    matrix = torch.zeros(size, size, dtype=torch.float64, device="cpu")
    return matrix.scatter_add_(1, places, weights.expand_as(places)).float()


def gaussian_blur(images: Tensor, sigma: float, truncate: float = 4.0, mode: str = "nearest") -> Tensor:
    """Blur the last two axes (height, width) as skimage.filters.gaussian does."""
    rows, columns = (gaussian_matrix(size, sigma, truncate, mode).to(images) for size in images.shape[-2:])
    return rows @ images @ columns.T


def pad(images: Tensor, margin: int, mode: str) -> Tensor:
    """Pad (batch, channels, height, width) on all sides, "reflect" without and "replicate" with the border's pixels.

    Margins may be wider than the images.
    """
    rows, columns = (border_indices(size, margin, mode, images.device) for size in images.shape[-2:])
    return images[..., rows, :][..., columns]


def border_indices(size: int, margin: int, mode: str, device: torch.device) -> Tensor:
    """Return the pixels (size + 2 * margin,) that a padded row reads."""
    indices = torch.arange(-margin, size + margin, device=device)
    if mode == "replicate" or size == 1:
        return indices.clamp(0, size - 1)
    indices = indices % (2 * size - 2)
    return torch.minimum(indices, 2 * size - 2 - indices)


def correlate(images: Tensor, kernels: Tensor, mode: str) -> Tensor:
    """Correlate each image with its kernel, in the frequency domain.

    Args:
        images: (batch, channels, height, width).
        kernels: (batch or 1, side, side) with an odd side; its middle lies on the pixel that is computed.
        mode: how images go on beyond their border, see `pad`.

    Returns:
        Of the shape of `images`.
    """
    height, width = images.shape[-2:]
    margin = kernels.shape[-1] // 2
    sizes = [fast_length(size + 2 * margin) for size in (height, width)]
    spectrum = torch.fft.rfft2(pad(images, margin, mode), s=sizes)
    filters = torch.fft.rfft2(kernels, s=sizes).conj()[:, None]
    return torch.fft.irfft2(spectrum * filters, s=sizes)[..., :height, :width]


def fast_length(size: int) -> int:
    """Return the smallest length of at least `size` that has no prime factor above 5."""
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


def mean_filter(images: Tensor) -> Tensor:
    """Return the mean of the 3 x 3 pixels around each pixel, borders reflected without the last pixel."""
    return F.avg_pool2d(pad(images, 1, "reflect"), 3, stride=1)


@cache
def disk(radius: int, blur: float) -> Tensor:
    """Return a blurred disk (side, side), the kernel of defocus blur, whose sum is about 1."""
    extent, taps = (8, 1) if radius <= 8 else (radius, 2)
    line = torch.arange(-extent, extent + 1, device="cpu")
    kernel = (line[:, None] ** 2 + line**2 <= radius**2).double()
    kernel /= kernel.sum()
    weights = torch.exp(-0.5 * (torch.arange(-taps, taps + 1, device="cpu").double() / blur) ** 2)
    weights /= weights.sum()
    padded = pad(kernel[None, None], taps, "reflect")
    return F.conv2d(padded, (weights[:, None] * weights)[None, None])[0, 0].float()


def motion_kernels(radius: int, sigma: float, angles: Tensor, size: tuple[int, int]) -> Tensor:
    """Return kernels (angles, side, side) of motion along a line that begins at the pixel itself.

    Weights fall as a half Gaussian; steps are rounded to whole pixels. Motion ends where it would leave an image.

    Args:
        angles: (angles,) in degrees.
        size: (height, width) of the images.
    """
    length = 2 * radius + 1
    steps = torch.arange(length, dtype=torch.float64, device="cpu")
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights /= weights.sum()
    radians = torch.deg2rad(angles.double().cpu())[:, None]
    down = -torch.ceil(steps * radians.sin() - 0.5).long()
    right = -torch.ceil(steps * radians.cos() - 0.5).long()
    inside = ((down.abs() < size[0]) & (right.abs() < size[1])).long().cumprod(1)
    # A picture that is shifted down by `down` shows at each pixel what was `down` rows above it.
    places = (length - 1 - down) * (2 * length - 1) + (length - 1 - right)
    kernels = torch.zeros(len(angles), (2 * length - 1) ** 2, dtype=torch.float64, device="cpu")
    kernels.scatter_add_(1, places, weights * inside)
    return kernels.unflatten(1, (2 * length - 1, 2 * length - 1)).float()


def motion_blur(images: Tensor, radius: int, sigma: float, angles: Tensor) -> Tensor:
    """Blur images (batch, channels, height, width) along a line at an angle of their own each."""
    kernels = motion_kernels(radius, sigma, angles, tuple(images.shape[-2:])).to(images)
    margin = int(kernels.sum(0).nonzero().sub(2 * radius).abs().max())  # what all kernels leave empty is cut off
    kernels = kernels[:, 2 * radius - margin : 2 * radius + margin + 1, 2 * radius - margin : 2 * radius + margin + 1]
    return correlate(images, kernels, "replicate")


def clipped_zoom(images: Tensor, factor: float) -> Tensor:
    """Enlarge the middle of images (batch, channels, height, width) bilinearly by a factor of at least 1.

    Returns:
        (batch, channels, rows, columns), a little larger or smaller than the images by rounding.
    """
    crops = [math.ceil(size / factor) for size in images.shape[-2:]]
    tops = [(size - crop) // 2 for size, crop in zip(images.shape[-2:], crops, strict=True)]
    cut = images[..., tops[0] : tops[0] + crops[0], tops[1] : tops[1] + crops[1]]
    size = [round(crop * factor) for crop in crops]
    return F.interpolate(cut, size, mode="bilinear", align_corners=True)


@cache
def box_matrix(size: int, wanted: int) -> Tensor:
    """Return the matrix (wanted, size) that shrinks a row by averaging, as Pillow's box filter does."""
    scale = size / wanted
    centres = (torch.arange(wanted, dtype=torch.float64, device="cpu")[:, None] + 0.5) * scale
    offsets = (torch.arange(size, dtype=torch.float64, device="cpu") + 0.5 - centres) / scale
    matrix = ((offsets > -0.5) & (offsets <= 0.5)).double()
    return (matrix / matrix.sum(1, keepdim=True)).float()


def sample(images: Tensor, rows: Tensor, columns: Tensor, reflect_border: bool) -> Tensor:
    """Read images (batch, channels, height, width) bilinearly at places (batch, height, width) in pixels.

    Args:
        reflect_border: whether images are mirrored at the outer edge of the last pixel or, if False, at its centre.
    """
    height, width = images.shape[-2:]
    grid = torch.stack([columns, rows], dim=-1)
    sizes = torch.tensor([width, height], device=images.device, dtype=images.dtype)
    grid = (2 * grid + 1) / sizes - 1 if reflect_border else 2 * grid / (sizes - 1) - 1
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=not reflect_border)
