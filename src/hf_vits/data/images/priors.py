"""Spatial priors: where in the images of a spatially consistent data set a region lies (SPAN, arXiv 2209.03745).

A prior is a map (height, width) of an image, not negative.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from hf_vits.processing.opening import to_mode
from hf_vits.recipe.pretraining import PriorsRecipe

from ..splits import Split


def load_priors(recipe: PriorsRecipe, split: Split, mode: str) -> Tensor:
    """Return the priors (regions, height, width) of a recipe.

    Args:
        split: the training images, for statistics.
        mode: PIL mode of the images.

    Raises:
        OSError, ValueError: a mask cannot be read, is empty, or has another size than the first.
    """
    if recipe.masks is not None:
        return blurred(read_masks(recipe.masks), recipe.sigma)
    chosen = np.arange(len(split))
    if recipe.images is not None and recipe.images < len(split):
        chosen = np.linspace(0, len(split) - 1, recipe.images).round().astype(int)
    images = (to_mode(split.inputs[int(index)], mode) for index in chosen)
    return blurred(highest(statistic_map(images, recipe.statistic), recipe.fractions), recipe.sigma)


def read_masks(paths: Sequence[str | Path]) -> Tensor:
    """Read the regions (regions, height, width) of one labelled sample, an image file each, True inside."""
    masks = []
    for path in paths:
        with Image.open(path) as image:
            masks.append(torch.from_numpy(np.asarray(image.convert("L")) > 0))
        if masks[-1].shape != masks[0].shape:
            raise ValueError(
                f"priors.masks are of one sample, but {paths[0]} is {tuple(masks[0].shape)} and {path} "
                f"{tuple(masks[-1].shape)} (height, width)"
            )
        if not masks[-1].any():
            raise ValueError(f"the mask {path} is empty: a region needs pixels other than zero")
    return torch.stack(masks)


def statistic_map(images: Iterable[Image.Image], statistic: str | None) -> Tensor:
    """Return the mean or the variance of each pixel over images, summed over channels: (height, width).

    Images of other sizes are resized to the first one's.
    """
    total = squares = None
    count, size = 0, None
    for image in images:
        size = size or image.size
        image = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).double() / 255
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
        total = pixels if total is None else total + pixels
        squares = pixels.square() if squares is None else squares + pixels.square()
        count += 1
    if total is None or squares is None:
        raise ValueError("statistics for priors need at least one image")
    mean = total / count
    return (mean if statistic == "mean" else squares / count - mean.square()).sum(dim=-1).float()


def highest(values: Tensor, fractions: Sequence[float]) -> Tensor:
    """Return regions (regions, height, width): the pixels of highest value, each region a fraction of all pixels."""
    order = values.flatten().argsort(descending=True)
    regions = torch.zeros(len(fractions), values.numel(), dtype=torch.bool)
    for region, fraction in zip(regions, fractions, strict=True):
        region[order[: max(1, round(fraction * len(order)))]] = True
    return regions.view(-1, *values.shape)


def blurred(regions: Tensor, sigma: float) -> Tensor:
    """Return regions (regions, height, width) after a Gaussian blur.

    Args:
        sigma: standard deviation as a fraction of the shorter side; 0 for none.
    """
    maps, width = regions.float(), sigma * min(regions.shape[-2:])
    if not width:
        return maps
    # Three standard deviations, as far as the padding by reflection allows.
    radius = min(math.ceil(3 * width), min(regions.shape[-2:]) - 1)
    return functional.gaussian_blur(maps, [2 * radius + 1] * 2, [width, width])
