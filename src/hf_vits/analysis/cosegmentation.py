"""Co-segmentation and part co-segmentation of images by clustering dense descriptors, without training.

Amir et al., "Deep ViT Features as Dense Visual Descriptors", arXiv 2112.05814, sections 4.1 and 4.2
(ShirAmir/dino-vit-features, cosegmentation.py and part_cosegmentation.py).
"""

import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.cluster import KMeans
from torch import nn
from tqdm import tqdm

from .crf import CRF, dense_crf
from .descriptors import IMAGENET_MEAN, IMAGENET_STD, cosine_similarity, descriptors, prepare, saliency

MAX_CLUSTERS = 14
PUBLISHED = CRF()
SALIENCY_STRIDE = 8  # of low-resolution saliency, in pixels
CROP = 0.95  # side of a crop augmentation, as a fraction of the image's


@dataclass(frozen=True)
class Description:
    """How images are described before they are segmented.

    Attributes:
        size, mean, std: see `descriptors.prepare`.
        layer, facet, bins, stride: see `descriptors.descriptors`.
        heads, saliency_layer: see `descriptors.saliency`.
        low_resolution_saliency: whether saliency comes from patches of stride 8 of the image at half its size (at its
            own size where `size` is None), which needs less memory.
        sample_interval: k-means is fitted to every n-th descriptor.
        seed: of k-means and of crops.
    """

    size: int | tuple[int, int] | None = None
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    layer: int = -1
    facet: str = "key"
    bins: bool = False
    stride: int | tuple[int, int] | None = 4
    heads: Sequence[int] | None = None
    saliency_layer: int = -1
    low_resolution_saliency: bool = True
    sample_interval: int = 100
    seed: int = 0


class Described(NamedTuple):
    """An image with its descriptors.

    Attributes:
        image: resized.
        values: (patches, channels) of float32, not normalised.
        class_values: (channels,) of the first prefix token, None with bins.
        saliency: (patches,), from 0 to 1.
        grid: (rows, columns) of the patches.
    """

    image: Image.Image
    values: np.ndarray
    class_values: np.ndarray | None
    saliency: np.ndarray
    grid: tuple[int, int]


class Clusters(NamedTuple):
    """Clusters of the descriptors of several images.

    Attributes:
        centres: (clusters, channels).
        labels: cluster of each patch, (patches,) per image.
        mean_squared_distances: for 1, 2, ... clusters; one value where the number was given.
    """

    centres: np.ndarray
    labels: list[np.ndarray]
    mean_squared_distances: list[float]


class Cosegmentation(NamedTuple):
    """The common object of several images.

    Attributes:
        masks: booleans (height, width) for each image; empty for outliers.
        images: resized.
        inliers: indices of the images that took part.
    """

    masks: list[np.ndarray]
    images: list[Image.Image]
    inliers: list[int]


class PartCosegmentation(NamedTuple):
    """The common parts of several images.

    Attributes:
        parts: (height, width) of integers for each image: parts from 0, -1 for the background.
        images: resized.
    """

    parts: list[np.ndarray]
    images: list[Image.Image]


def describe(model: nn.Module, image: Image.Image, how: Description) -> Described:
    """Compute descriptors and saliency of an image."""
    device = next(model.parameters()).device
    pixel_values, resized = prepare(image, how.size, how.mean, how.std)
    pixel_values = pixel_values.to(device)
    found = descriptors(model, pixel_values, how.layer, how.facet, how.stride, how.bins, class_token=not how.bins)
    values = found.values[0].float().cpu().numpy()
    prefix = len(values) - math.prod(found.grid)
    stride = how.stride
    if how.low_resolution_saliency:
        stride = SALIENCY_STRIDE
        height, width = pixel_values.shape[-2:]
        size = (height, width) if how.size is None else (height // 2, width // 2)
        pixel_values = prepare(image, size, how.mean, how.std)[0].to(device)
    salient, grid = saliency(model, pixel_values, how.saliency_layer, how.heads, stride)
    salient = salient[0].float().cpu().numpy()
    if how.low_resolution_saliency:
        rows, columns = found.grid
        picture = Image.fromarray(salient.reshape(grid))
        salient = np.array(picture.resize((columns, rows), Image.Resampling.NEAREST)).ravel()
    return Described(resized, values[prefix:], values[0] if prefix else None, salient, found.grid)


def normalised(values: np.ndarray) -> np.ndarray:
    """Return vectors (n, channels) of length 1; zeros stay."""
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / np.where(length > 0, length, 1)).astype(np.float32)


def squared_distances(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return (n, centres)."""
    return np.stack([np.square(values - centre).sum(axis=1) for centre in centres], axis=1)


def cluster(
    values: Sequence[np.ndarray],
    sample_interval: int = 100,
    elbow: float = 0.975,
    count: int | None = None,
    seed: int = 0,
) -> Clusters:
    """Cluster the normalised descriptors of images by k-means.

    The number of clusters grows until another one lowers the mean squared distance by less than `elbow`. That last
    number is used.

    Args:
        values: (patches, channels) for each image.
        sample_interval: k-means is fitted to every n-th descriptor of each image.
        elbow: ratio of mean squared distances at which to stop.
        count: number of clusters; None to find it, at most 14.

    Raises:
        ValueError: fewer sampled descriptors than clusters.
    """
    every = normalised(np.concatenate(list(values)))
    sampled = normalised(np.concatenate([each[::sample_interval] for each in values]))
    if len(sampled) < (count or 1):
        raise ValueError(
            f"{count or 1} clusters need as many sampled descriptors, got {len(sampled)}: lower sample_interval"
        )
    counts = range(1, min(MAX_CLUSTERS, len(sampled)) + 1) if count is None else [count]
    distances: list[float] = []
    found, labels = sampled[:0], np.zeros(0, dtype=int)
    for number in counts:
        found = KMeans(number, n_init=10, max_iter=300, random_state=seed).fit(sampled).cluster_centers_
        squared = squared_distances(every, found)
        labels = squared.argmin(axis=1)
        distances.append(float(squared.min(axis=1).mean()))
        if len(distances) > 1 and distances[-1] > elbow * distances[-2]:
            break
    return Clusters(found, np.split(labels, np.cumsum([len(each) for each in values])[:-1]), distances)


def vote(
    labels: Sequence[np.ndarray], salient: Sequence[np.ndarray], num_labels: int, threshold: float, percentage: float
) -> tuple[np.ndarray, np.ndarray]:
    """Let images vote for clusters whose patches are salient on average.

    Args:
        labels, salient: cluster and saliency of each patch, (patches,) per image.
        percentage: of the images that must vote for a salient cluster.

    Returns:
        Votes of each cluster, (num_labels,), and the salient clusters.
    """
    votes = np.zeros(num_labels)
    for clusters, values in zip(labels, salient, strict=True):
        counts = np.bincount(clusters, minlength=num_labels)
        sums = np.bincount(clusters, weights=values, minlength=num_labels)
        votes += (counts > 0) & (sums / np.maximum(counts, 1) > threshold)
    return votes, np.flatnonzero(votes >= math.ceil(len(labels) * percentage / 100))


def find_inliers(class_values: np.ndarray, threshold: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's similarity to the mean image and the indices of those that reach the threshold.

    Args:
        class_values: descriptors of class tokens, (images, channels).
    """
    values = torch.from_numpy(class_values)
    similarity = cosine_similarity(values[None], values.mean(dim=0)[None, None])[0, :, 0].numpy()
    return similarity, np.flatnonzero(similarity >= threshold)


def refine(mask: np.ndarray, image: Image.Image) -> np.ndarray:
    """Resize a mask of patches to its image and follow the image's edges by GrabCut, which needs OpenCV.

    Without OpenCV, and where nothing is surely foreground or background, the resized mask is returned.

    Args:
        mask: booleans (rows, columns).

    Returns:
        Booleans (height, width).
    """
    resized = np.array(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
    if find_spec("cv2") is None:
        warnings.warn("masks are not refined: GrabCut needs the package opencv-python-headless", stacklevel=2)
        return resized
    import cv2

    kernel = np.ones((7, 7), np.uint8)
    sure = cv2.erode(resized.astype(np.uint8), kernel), cv2.erode((~resized).astype(np.uint8), kernel)
    state = np.full(resized.shape, cv2.GC_PR_FGD, np.uint8)
    state[sure[1] == 1] = cv2.GC_BGD
    state[sure[0] == 1] = cv2.GC_FGD
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    whole = (0, 0, image.width, image.height)  # not read where a mask is given
    try:
        cv2.grabCut(np.array(image), state, whole, background, foreground, 5, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return resized
    return (state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)


def cosegment(
    model: nn.Module,
    images: Sequence[Image.Image],
    how: Description | None = None,
    threshold: float = 0.065,
    elbow: float = 0.975,
    votes_percentage: float = 75,
    outlier_threshold: float | None = None,
) -> Cosegmentation:
    """Segment the object that images have in common, with a progress bar.

    Args:
        how: the images' description; None for the defaults.
        threshold: smallest mean saliency of a cluster for which an image votes.
        elbow: see `cluster`.
        votes_percentage: of images that must vote for a cluster.
        outlier_threshold: smallest similarity of an image's class token to the mean; None keeps all images. Published:
            0.7.

    Raises:
        ValueError: no images; outliers with binned descriptors or without a class token.
    """
    how = how or Description()
    described = describe_all(model, images, how)
    inliers = list(range(len(described)))
    if outlier_threshold is not None:
        classes = [each.class_values for each in described if each.class_values is not None]
        if len(classes) < len(described):
            raise ValueError("outliers are found by class tokens: the model needs one, and the description no bins")
        inliers = find_inliers(np.stack(classes), outlier_threshold)[1].tolist()
    chosen = [described[index] for index in inliers]
    masks = [np.zeros((each.image.height, each.image.width), dtype=bool) for each in described]
    if chosen:
        clusters = cluster([each.values for each in chosen], how.sample_interval, elbow, seed=how.seed)
        salient = [each.saliency for each in chosen]
        _, labels = vote(clusters.labels, salient, len(clusters.centres), threshold, votes_percentage)
        for index, each, found in zip(inliers, chosen, clusters.labels, strict=True):
            masks[index] = refine(np.isin(found, labels).reshape(each.grid), each.image)
    return Cosegmentation(masks, [each.image for each in described], inliers)


def describe_all(model: nn.Module, images: Sequence[Image.Image], how: Description) -> list[Described]:
    """Describe images with a progress bar."""
    if not images:
        raise ValueError("expected at least one image, got none")
    return [describe(model, image, how) for image in tqdm(images, desc="Descriptors", unit="image", leave=False)]


def part_costs(
    values: np.ndarray, parts: np.ndarray, background: np.ndarray, grid: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Return how far each pixel is from each part and from the background.

    Args:
        values: descriptors (patches, channels).
        parts, background: centres, (n, channels).
        size: (height, width) of the image.

    Returns:
        (parts + 1, height * width): squared distances to the parts' centres and the nearest of the background's,
        less the largest of each patch.
    """
    values = normalised(values)
    nearest = squared_distances(values, background).min(axis=1, keepdims=True)
    costs = np.concatenate([squared_distances(values, parts), nearest], axis=1)
    costs = costs - costs.max(axis=1, keepdims=True)
    maps = torch.from_numpy(costs).T.reshape(1, -1, *grid)
    return nn.functional.interpolate(maps, size=size, mode="nearest")[0].flatten(1).numpy()


def assign_parts(costs: np.ndarray, image: Image.Image, crf: CRF | None) -> np.ndarray:
    """Return parts (height, width), -1 for the background, smoothed by a CRF if there is one.

    Args:
        costs: (parts + 1, height * width).
    """
    scores = -costs if crf is None else dense_crf(costs, np.array(image), crf)
    labels = scores.argmax(axis=0).reshape(image.height, image.width)
    return np.where(labels == len(costs) - 1, -1, labels)


def augment(images: Sequence[Image.Image], count: int, generator: random.Random) -> list[Image.Image]:
    """Return `count` random crops of each image and of its mirror image."""
    made = []
    for image in images:
        width, height = int(image.width * CROP), int(image.height * CROP)
        for _ in range(count):
            for view in (image, ImageOps.mirror(image)):
                left, top = generator.randint(0, view.width - width), generator.randint(0, view.height - height)
                made.append(view.crop((left, top, left + width, top + height)))
    return made


def common_parts(parts: Sequence[np.ndarray], originals: int, num_parts: int) -> np.ndarray:
    """Return the parts that occur in each of the first `originals` maps."""
    present = [np.isin(np.arange(num_parts), each) for each in parts[:originals]]
    return np.flatnonzero(np.all(present, axis=0))


def cosegment_parts(
    model: nn.Module,
    images: Sequence[Image.Image],
    how: Description | None = None,
    num_parts: int = 4,
    threshold: float = 0.065,
    elbow: float = 0.975,
    votes_percentage: float = 75,
    num_crops: int = 0,
    three_stages: bool = False,
    second_elbow: float = 0.94,
    crf: CRF | None = PUBLISHED,
) -> PartCosegmentation:
    """Segment the parts of the object that images have in common, with a progress bar.

    Args:
        how, threshold, elbow, votes_percentage: see `cosegment`.
        num_crops: crops of each image and of its mirror image that are described too; 20 for few images.
        three_stages: whether parts that some image lacks become background before the rest is divided into
            `num_parts`, which helps where there are few images.
        second_elbow: elbow of the second of three stages.
        crf: how parts are smoothed; None for the nearest centre.

    Raises:
        ValueError: no images, no cluster is salient, or too few descriptors for the parts.
    """
    how = how or Description()
    described = describe_all(model, images, how)
    originals = len(described)
    if num_crops:
        crops = augment([each.image for each in described], num_crops, random.Random(how.seed))
        described += describe_all(model, crops, how)
    clusters = cluster([each.values for each in described], how.sample_interval, elbow, seed=how.seed)
    votes = zip(clusters.labels[:originals], (each.saliency for each in described[:originals]), strict=True)
    labels, salient = zip(*votes, strict=True)
    chosen = vote(labels, salient, len(clusters.centres), threshold, votes_percentage)[1]
    if not len(chosen):
        raise ValueError(f"no cluster is more salient than {threshold} in enough images: choose a lower threshold")
    background = np.delete(clusters.centres, chosen, axis=0)
    foreground = [np.isin(found, chosen) for found in clusters.labels]

    def divide(masks: Sequence[np.ndarray], stage_elbow: float, count: int | None) -> np.ndarray:
        values = [each.values[mask] for each, mask in zip(described, masks, strict=True)]
        return cluster(values, how.sample_interval, stage_elbow, count, how.seed).centres

    def assign(parts: np.ndarray, background: np.ndarray, among: Sequence[Described]) -> list[np.ndarray]:
        if not len(background):
            raise ValueError(f"every cluster is more salient than {threshold}: choose a higher threshold")
        found = []
        for each in tqdm(among, desc="Parts", unit="image", leave=False):
            size = (each.image.height, each.image.width)
            costs = part_costs(each.values, parts, background, each.grid, size)
            found.append(assign_parts(costs, each.image, crf))
        return found

    parts = divide(foreground, second_elbow, None if three_stages else num_parts)
    if three_stages:
        maps = [
            on_patches(found, each.grid)
            for found, each in zip(assign(parts, background, described), described, strict=True)
        ]
        common = common_parts(maps, originals, len(parts))
        if not len(common):
            raise ValueError("no part occurs in every image: use two stages, or more crops")
        background = np.concatenate([background, np.delete(parts, common, axis=0)])
        parts = divide([np.isin(found, common).ravel() for found in maps], second_elbow, num_parts)
    segmented = assign(parts, background, described[:originals])
    return PartCosegmentation(segmented, [each.image for each in described[:originals]])


def on_patches(parts: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the part at each patch, (rows, columns), from pixels."""
    maps = torch.from_numpy(parts)[None, None].float()
    return nn.functional.interpolate(maps, size=grid, mode="nearest")[0, 0].long().numpy()
