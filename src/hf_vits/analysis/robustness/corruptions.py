"""The corruptions of ImageNet-C, on batches of images.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
arXiv 1903.12261; hendrycks/robustness (ImageNet-C/create_c/make_imagenet_c.py), whose severities they have, and
bethgelab/imagecorruptions (corruptions.py), which extends them to images of any size. Lengths in pixels that belong to
224 pixels there, those of the elastic transform, grow with the image.

Where the sources differ: motion is blurred with imagecorruptions' kernel in place of ImageMagick's, zooms are cut at
the top left as there, and the elastic transform is Hendrycks'. Random numbers come from torch, so what is drawn
differs from the sources; what is computed from it does not. The photographs of frosted windows that the sources blend
in are not ours to give: `frost` blends in synthetic ice textures instead, or images that the caller passes. Its errors
are therefore not comparable with published ones.
"""

import inspect
import io
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F

from .filters import (
    box_matrix,
    clipped_zoom,
    correlate,
    disk,
    gaussian_blur,
    gaussian_matrix,
    mean_filter,
    motion_blur,
    pad,
    sample,
)

Corruption = Callable[..., Tensor]

_GREY = (0.299, 0.587, 0.114)
_REFERENCE_SIDE = 224


def corrupt(
    images: Tensor,
    name: str,
    severity: int = 1,
    generator: Generator | None = None,
    textures: list[Tensor] | None = None,
) -> Tensor:
    """Corrupt a batch of images, each with random numbers of its own.

    Example: `corrupt(images, "motion_blur", 3, torch.Generator().manual_seed(0))`.

    Args:
        images: (batch, 3, height, width), uint8, or floating from 0 to 1, before normalisation.
        name: a key of `CORRUPTIONS`; `IMAGENET_C` names the 15 of the benchmark, `EXTRA` the 4 for validation.
        severity: from 1 to 5.
        generator: random numbers are drawn from it, on its device; None for torch's own.
        textures: of "frost", images (3, rows, columns) of the same kind as `images`, in place of synthetic ice.

    Returns:
        Of the shape and dtype of `images`; uint8 is rounded down, as in the sources.

    Raises:
        ValueError: the name, the severity or the shape is not one of these.
        TypeError: the images are neither uint8 nor floating, or textures are given to another corruption.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"unknown corruption {name!r}; expected one of {', '.join(CORRUPTIONS)}")
    if severity not in range(1, 6):
        raise ValueError(f"severity must be 1, 2, 3, 4 or 5, got {severity!r}")
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:], default=0) < 16:
        raise ValueError(
            f"images must be (batch, 3, height, width) of at least 16 x 16 pixels, got shape {tuple(images.shape)}"
        )
    options = {} if textures is None else {"textures": [as_fractions(texture) for texture in textures]}
    function = CORRUPTIONS[name]
    if options and "textures" not in inspect.signature(function).parameters:
        raise TypeError(f'textures belong to "frost", got them for {name!r}')
    corrupted = function(as_fractions(images), severity, generator, **options).clamp(0, 1)
    # Less than a thousandth of a grey level makes up for single precision, before fractions are cut off.
    return (
        (corrupted * 255 + 5e-4).clamp(max=255).to(torch.uint8)
        if images.dtype == torch.uint8
        else corrupted.to(images.dtype)
    )


def as_fractions(images: Tensor) -> Tensor:
    """Return images in single precision from 0 to 1; TypeError unless they are uint8 or floating."""
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise TypeError(f"images must be uint8, or floating from 0 to 1, got {images.dtype}")
    return images.float()


def uniform(shape, low: float, high: float, generator: Generator | None, like: Tensor) -> Tensor:
    """Return uniform random numbers on the device of `like`."""
    device = "cpu" if generator is None else generator.device
    return (torch.rand(shape, generator=generator, device=device) * (high - low) + low).to(like.device)


def normal(shape, mean: float, deviation: float, generator: Generator | None, like: Tensor) -> Tensor:
    """Return normal random numbers on the device of `like`."""
    device = "cpu" if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).mul_(deviation).add_(mean).to(like.device)


# Noise


def gaussian_noise(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return images + normal(images.shape, 0, deviation, generator, images)


def shot_noise(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    """Poisson noise of this many photons for white."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    device = torch.device("cpu") if generator is None else generator.device
    return torch.poisson((images * photons).to(device), generator).to(images.device) / photons


def impulse_noise(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    """Salt and pepper in equal parts, in each channel by itself."""
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    draws = uniform(images.shape, 0, 1, generator, images)
    return images.masked_fill(draws < amount, 0).masked_fill(draws < amount / 2, 1)


def speckle_noise(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    deviation = (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1]
    return images + images * normal(images.shape, 0, deviation, generator, images)


# Blur


def gaussian(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    return gaussian_blur(images, (1, 2, 3, 4, 6)[severity - 1])


def defocus_blur(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    kernel = disk(*((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1])
    return correlate(images, kernel[None].to(images), "reflect")


def glass_blur(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    """Blur, let each pixel take the colour of a neighbour several times, blur again."""
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    blurred = ((gaussian_blur(images, sigma).clamp(0, 1) * 255 + 5e-4).floor() / 255).clamp(max=1)
    batch, _, height, width = images.shape
    size = (rounds, 2, batch, height - 2 * reach, width - 2 * reach)
    device = "cpu" if generator is None else generator.device
    offsets = torch.randint(-reach, reach, size, generator=generator, device=device).to(images.device)
    return gaussian_blur(take_neighbours(blurred, offsets, reach), sigma)


def take_neighbours(images: Tensor, offsets: Tensor, reach: int) -> Tensor:
    """Give pixels the colour of a neighbour, one after the other from the bottom right to the top left.

    The sources mean to swap two pixels, but both sides of their assignment are views of the same array, so that only
    one pixel changes. A neighbour below or to the right may have changed before, so its colour may come from far.

    Args:
        images: (batch, channels, height, width).
        offsets: (rounds, 2, batch, height - 2 * reach, width - 2 * reach), rows down and columns right, each from
            -reach to reach - 1, of the pixels from (reach + 1, reach + 1).
    """
    batch, _, height, width = images.shape
    places = torch.arange(height * width, device=images.device).view(height, width)
    inner = slice(reach + 1, height - reach + 1), slice(reach + 1, width - reach + 1)
    own = places[inner]
    for down, right in offsets:
        down, right = (part[..., : own.shape[0], : own.shape[1]] for part in (down, right))
        changed = torch.zeros(height * width, dtype=torch.bool, device=images.device)
        changed[own.flatten()] = True
        target = own + down * width + right
        # Of pixels that have changed already the new colour is read, of all others the old one.
        is_new = changed[target] & ((down > 0) | ((down == 0) & (right > 0)))
        count = height * width
        # Nodes from 0 hold old colours, those from `count` new ones; each new one points to where its colour is.
        pointers = torch.arange(2 * count, device=images.device).expand(batch, -1).clone()
        pointers[:, count:] -= count
        pointers[:, count + own.flatten()] = (target + count * is_new).flatten(1)
        while True:
            further = pointers.gather(1, pointers)
            if torch.equal(further, pointers):
                break
            pointers = further
        source = pointers[:, None, count:].expand(-1, images.shape[1], -1)
        images = images.flatten(2).gather(2, source).view_as(images)
    return images


def along_lines(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    return motion_blur(images, radius, sigma, uniform((len(images),), -45, 45, generator, images))


def zoom_blur(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    end, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[severity - 1]
    factors = np.arange(1, end, step).tolist()
    height, width = images.shape[-2:]
    total = images.clone()
    for factor in factors:
        zoomed = clipped_zoom(images, factor)[..., :height, :width]
        total[..., : zoomed.shape[-2], : zoomed.shape[-1]] += zoomed
    return total / (len(factors) + 1)


# Weather


def snow(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    mean, deviation, zoom, threshold, radius, sigma, kept = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    batch, _, height, width = images.shape
    flakes = clipped_zoom(normal((batch, 1, height, width), mean, deviation, generator, images), zoom)
    flakes = flakes.masked_fill(flakes < threshold, 0).clamp(0, 1)
    flakes = motion_blur(flakes, radius, sigma, uniform((batch,), -135, -45, generator, images))
    flakes = (flakes[..., :height, :width] * 255).round() / 255
    weights = torch.tensor(_GREY, device=images.device).view(3, 1, 1)
    grey = (images * weights).sum(1, keepdim=True)
    whiter = kept * images + (1 - kept) * torch.maximum(images, grey * 1.5 + 0.5)
    whiter[..., : flakes.shape[-2], : flakes.shape[-1]] += flakes + flakes.flip(-2, -1)
    return whiter


def frost(images: Tensor, severity: int, generator: Generator | None, textures: list[Tensor] | None = None) -> Tensor:
    """Blend in a random part of an ice texture, enlarged where it is smaller than the images.

    The sources blend in photographs of frosted windows, which are not part of this package. Unless `textures` are
    passed, ice is synthetic here (`ice_textures`), so accuracies under frost are not those of ImageNet-C.
    """
    kept, added = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    textures = list(ice_textures()) if textures is None else textures
    batch, _, height, width = images.shape
    draws = uniform((batch, 3), 0, 1, generator, images).tolist()
    scaled: dict[int, Tensor] = {}
    crops = []
    for choice, top, left in draws:
        index = int(choice * len(textures))
        if index not in scaled:
            texture = textures[index].to(images)
            rows, columns = texture.shape[-2:]
            factor = 1.1 * max(1, height / rows, width / columns)
            size = [int(np.ceil(side * factor)) for side in (rows, columns)]
            scaled[index] = F.interpolate(texture[None], size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
        ice = scaled[index]
        row, column = int(top * (ice.shape[-2] - height)), int(left * (ice.shape[-1] - width))
        crops.append(ice[:, row : row + height, column : column + width])
    return kept * images + added * torch.stack(crops)


@cache
def ice_textures(count: int = 5, size: int = 512, seed: int = 0) -> Tensor:
    """Return synthetic pictures (count, 3, size, size) of ice on glass, from 0 to 1.

    Needles of ice grow from random points in bundles, as bright thin lines over a bluish film of uneven thickness.
    """
    generator = torch.Generator().manual_seed(seed)
    film = gaussian_blur(fractals(count, size, 1.9, generator)[:, None], 1.5)
    pictures = []
    for index in range(count):
        needles = draw_needles(size, 60 + 25 * index, generator)
        ice = 0.3 + 0.25 * film[index, 0] + 0.4 * needles
        tint = torch.tensor([0.86, 0.97, 1.06]) + 0.04 * torch.rand(1, generator=generator)
        pictures.append(ice * tint[:, None, None])
    return torch.stack(pictures).clamp(0, 1)


def draw_needles(size: int, bundles: int, generator: Generator) -> Tensor:
    """Return a picture (size, size) of ice needles, from 0 to 1: a stem each, with side needles at 60 degrees."""
    canvas = torch.zeros(size * size)

    def lines(starts: Tensor, angles: Tensor, lengths: Tensor, brightness: float) -> None:
        steps = torch.linspace(0, 1, int(lengths.max()) + 1)
        reach = steps * lengths[:, None]
        columns = starts[:, 0, None] + reach * angles.cos()[:, None]
        rows = starts[:, 1, None] + reach * angles.sin()[:, None]
        inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
        places = (rows.long() * size + columns.long())[inside]
        # Needles thin out towards their tips.
        values = (brightness * (1 - 0.8 * steps)).expand_as(reach)[inside]
        canvas.scatter_reduce_(0, places, values, "amax")

    starts = torch.rand(bundles, 2, generator=generator) * size
    angles = torch.rand(bundles, generator=generator) * 2 * torch.pi
    lengths = size * (0.08 + 0.3 * torch.rand(bundles, generator=generator))
    lines(starts, angles, lengths, 1.0)
    for fraction in torch.linspace(0.03, 0.9, 28).tolist():
        stems = torch.stack([angles.cos(), angles.sin()], dim=1) * (fraction * lengths)[:, None]
        for side in (-1, 1):
            turned = angles + side * torch.pi / 3 + 0.15 * torch.randn(bundles, generator=generator)
            lines(starts + stems, turned, (1 - fraction) * 0.35 * lengths + 2, 0.75)
    needles = canvas.view(size, size)
    return (gaussian_blur(needles, 0.7) * 1.4 + gaussian_blur(needles, 3.0)).clamp(0, 1)


def fog(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    thickness, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity - 1]
    batch, _, height, width = images.shape
    clouds = fractals(batch, 1 << (max(height, width) - 1).bit_length(), decay, generator).to(images)
    brightest = images.amax((1, 2, 3), keepdim=True)
    foggy = images + thickness * clouds[:, None, :height, :width]
    return foggy * brightest / (brightest + thickness)


def fractals(count: int, size: int, decay: float, generator: Generator | None) -> Tensor:
    """Return plasma fractals (count, size, size) from 0 to 1 by the diamond-square algorithm.

    Args:
        size: a power of two.
        decay: by what random offsets shrink when the step is halved.
    """
    device = "cpu" if generator is None else generator.device
    heights = torch.zeros(count, size, size, device=device)
    step, wobble = size, 100.0

    def offset(corners: Tensor) -> Tensor:
        return corners / 4 + wobble * (torch.rand(corners.shape, generator=generator, device=device) * 2 - 1) * wobble

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        total = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = offset(total + total.roll(-1, 2))
        middles = heights[:, half::step, half::step]
        above = middles + middles.roll(1, 1) + corners + corners.roll(-1, 2)
        heights[:, ::step, half::step] = offset(above)
        beside = middles + middles.roll(1, 2) + corners + corners.roll(-1, 1)
        heights[:, half::step, ::step] = offset(beside)
        step, wobble = half, wobble / decay
    heights -= heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True)


def brightness(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    """Raise the value of HSV; hue and saturation remain."""
    value = images.amax(1, keepdim=True)
    raised = (value + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]).clamp(max=1)
    return torch.where(value > 0, images * (raised / value.clamp(min=1e-12)), raised)


# Digital


def contrast(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    means = images.mean((2, 3), keepdim=True)
    return (images - means) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1] + means


def elastic_transform(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    """Map three points of each image to random places near them, then move every pixel by a smooth random field."""
    strength, sigma, reach = (
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    )[severity - 1]
    batch, _, height, width = images.shape
    unit = 244 * min(height, width) / _REFERENCE_SIDE
    moves = uniform((batch, 3, 2), -reach * unit, reach * unit, generator, images)
    images = move_points(images, moves)
    fields = uniform((2, batch, height, width), -1, 1, generator, images)
    rows, columns = (gaussian_matrix(size, sigma * unit, 3.0, "reflect").to(images) for size in (height, width))
    right, down = (rows @ fields @ columns.T) * (strength * unit)
    return sample(images, *places_of(images, down, right), reflect_border=True)


def places_of(images: Tensor, down: Tensor | float = 0.0, right: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the row and the column of every pixel, plus offsets that broadcast to (batch, height, width)."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device, dtype=images.dtype)[:, None] + down
    columns = torch.arange(width, device=images.device, dtype=images.dtype) + right
    return rows, columns


def move_points(images: Tensor, moves: Tensor) -> Tensor:
    """Map images affinely so that three points around the middle move by `moves` (batch, 3, 2), in pixels."""
    height, width = images.shape[-2:]
    middle, side = torch.tensor([height // 2, width // 2]), min(height, width) // 3
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    points = (middle + side * signs).double()
    moved = points.to(moves.device) + moves.double()
    ones = torch.ones_like(moved[..., :1])
    # From places of the result to places of the image; (x, y, 1) are a point's coordinates.
    back = torch.linalg.solve(torch.cat([moved, ones], dim=-1), points.to(moves.device).expand_as(moved))
    back = back.to(images.dtype)[..., None, None]
    rows, columns = places_of(images)
    x, y = (columns * back[:, 0, axis] + rows * back[:, 1, axis] + back[:, 2, axis] for axis in (0, 1))
    return sample(images, y, x, reflect_border=False)


def pixelate(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    """Shrink by averaging, then enlarge by repeating; both passes of shrinking round to grey levels."""
    fraction = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    sizes = images.shape[-2:]
    rows, columns = (box_matrix(size, int(size * fraction)).to(images) for size in sizes)
    small = (images @ columns.T * 255 + 0.5).floor() / 255
    small = (rows @ small * 255 + 0.5).floor() / 255
    for axis, size in zip((-2, -1), sizes, strict=True):
        step = small.shape[axis] / size
        steps = torch.full((size,), step, dtype=torch.float64, device="cpu")
        steps[0] = step / 2
        nearest = steps.cumsum(0)  # Pillow adds step by step, which decides where two cells are equally near
        small = small.index_select(axis, nearest.long().to(images.device))
    return small


def jpeg_compression(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    quality = (25, 18, 15, 10, 7)[severity - 1]
    decoded = []
    for image in (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        decoded.append(torch.from_numpy(np.array(Image.open(buffer))))
    return torch.stack(decoded).permute(0, 3, 1, 2).to(images.device).float() / 255


def saturate(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    """Scale and raise the saturation of HSV; grey pixels, whose hue is undefined, turn towards red."""
    factor, added = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    value, lowest = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    saturation = (value - lowest) / value.clamp(min=1e-12)
    wanted = (saturation * factor + added).clamp(0, 1)
    grey = torch.cat([value, value * (1 - wanted), value * (1 - wanted)], dim=1)
    coloured = value - (value - images) * (wanted / saturation.clamp(min=1e-12))
    return torch.where(saturation > 0, coloured, grey)


def spatter(images: Tensor, severity: int, generator: Generator | None) -> Tensor:
    """Drops of water, at severities 4 and 5 of mud."""
    mean, deviation, sigma, threshold, strength, is_mud = (
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    )[severity - 1]
    batch, _, height, width = images.shape
    liquid = gaussian_blur(normal((batch, 1, height, width), mean, deviation, generator, images), sigma)
    liquid = liquid.masked_fill(liquid < threshold, 0)
    if is_mud:
        mask = gaussian_blur((liquid > threshold).to(images), strength)
        mask = mask.masked_fill(mask < 0.8, 0)
        mud = torch.tensor([63, 42, 20], device=images.device).view(3, 1, 1) / 255
        return images * (1 - mask) + mud * mask
    liquid = (liquid.clamp(0, 1) * 255).floor()
    distances = edge_distances(edges(liquid, 50, 150)).clamp(max=20)
    relief = equalized(mean_filter(distances).floor())
    kernel = torch.tensor([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]], device=images.device)
    relief = F.conv2d(pad(relief, 1, "reflect"), kernel[None, None]).clamp(0, 255)
    drops = liquid * mean_filter(relief).round()
    drops = strength * drops / drops.amax((2, 3), keepdim=True).clamp(min=1e-12)
    turquoise = torch.tensor([175, 238, 238], device=images.device).view(3, 1, 1) / 255
    return images + drops * turquoise


def edges(grey: Tensor, low: float, high: float) -> Tensor:
    """Return Canny's edges of grey levels (batch, 1, height, width), booleans; |dx| + |dy| is compared."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=grey.device)
    dx, dy = F.conv2d(pad(grey, 1, "replicate"), torch.stack([kernel, kernel.T])[:, None]).split(1, dim=1)
    size = dx.abs() + dy.abs()
    around = F.pad(size, (1, 1, 1, 1))
    height, width = grey.shape[-2:]

    def neighbour(down: int, right: int) -> Tensor:
        return around[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    slope = 2**0.5 - 1  # of 22.5 degrees
    flat, steep = dy.abs() < slope * dx.abs(), dy.abs() > (slope + 2) * dx.abs()
    falling = dx * dy >= 0
    largest = torch.where(
        flat,
        (size > neighbour(0, -1)) & (size >= neighbour(0, 1)),
        torch.where(
            steep,
            (size > neighbour(-1, 0)) & (size >= neighbour(1, 0)),
            torch.where(
                falling,
                (size > neighbour(-1, -1)) & (size > neighbour(1, 1)),
                (size > neighbour(-1, 1)) & (size > neighbour(1, -1)),
            ),
        ),
    )
    weak = (largest & (size > low)).float()
    found = weak * (size > high)
    while True:  # weak edges count where they touch one that counts
        grown = F.max_pool2d(found, 3, stride=1, padding=1) * weak
        if torch.equal(grown, found):
            return found.bool()
        found = grown


def edge_distances(edge: Tensor, limit: float = 20.0) -> Tensor:
    """Return distances (batch, 1, height, width) to the nearest edge, exact up to `limit`, made of 5 x 5 steps.

    A step to the side costs 1, across a corner 1.4, a knight's move 2.1969, as in OpenCV's distance transform.
    """
    far = 2 * limit
    distances = torch.where(edge, 0.0, far)
    height, width = edge.shape[-2:]
    costs = {(a, b): {1: 1.0, 2: 1.4, 5: 2.1969}.get(a * a + b * b) for a in range(-2, 3) for b in range(-2, 3)}
    for _ in range(int(limit) + 1):
        around = F.pad(distances, (2, 2, 2, 2), value=far)
        steps = [
            around[..., 2 + down : 2 + down + height, 2 + right : 2 + right + width] + cost
            for (down, right), cost in costs.items()
            if cost is not None
        ]
        nearer = torch.stack([distances, *steps]).amin(0)
        if torch.equal(nearer, distances):
            break
        distances = nearer
    return distances


def equalized(grey: Tensor) -> Tensor:
    """Return grey levels (batch, 1, height, width) from 0 to 255 with their histograms equalised."""
    result = []
    for image in grey:
        counts = torch.bincount(image.flatten().long(), minlength=256)
        first = int(counts.nonzero()[0])
        rest = int(counts.sum() - counts[first])
        if rest == 0:
            result.append(image)
            continue
        sums = counts.cumsum(0) - counts[: first + 1].sum()
        table = (sums.clamp(min=0) * (255 / rest)).round().to(image.dtype)
        result.append(table[image.long()])
    return torch.stack(result)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": along_lines,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian,
    "spatter": spatter,
    "saturate": saturate,
}
IMAGENET_C = tuple(CORRUPTIONS)[:15]
EXTRA = tuple(CORRUPTIONS)[15:]
