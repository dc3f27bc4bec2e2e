"""Scores from logits: unknown inputs, categories of several classes, curves over corruptions and occlusion."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Generator, Tensor
from tqdm import tqdm

from hf_vits.metrics.information_loss import information_loss

from .corruptions import IMAGENET_C, corrupt
from .occlusion import draw_cells, mask_of_cells, occlude, shuffle

Classifier = Callable[[Tensor], Tensor]
Batches = Iterable[tuple[Tensor, Tensor]]


def unknown_scores(logits: Tensor, kind: Literal["max_softmax", "max_logit", "energy"] = "max_softmax") -> Tensor:
    """Return how unfamiliar inputs look to a classifier: (inputs,), higher for unknown classes.

    "max_softmax" is minus the largest probability (arXiv 1610.02136), "max_logit" minus the largest logit
    (arXiv 1911.11132), "energy" minus the logarithm of the sum of exponentials (arXiv 2010.03759). The metric
    `out_of_distribution` measures how well they separate.
    """
    if kind == "max_softmax":
        return -logits.softmax(dim=-1).amax(dim=-1)
    if kind == "max_logit":
        return -logits.amax(dim=-1)
    if kind == "energy":
        return -logits.logsumexp(dim=-1)
    raise ValueError(f'kind must be "max_softmax", "max_logit" or "energy", got {kind!r}')


def category_probabilities(logits: Tensor, members: Sequence[Sequence[int]]) -> Tensor:
    """Return the probabilities (inputs, categories) of categories, each the mean over its classes.

    bethgelab/model-vs-human (decision_mappings.py), for shape bias: its 16 categories have 1 to about 50 of ImageNet's
    classes each, and a mean favours none for their number.

    Args:
        logits: (inputs, classes).
        members: the classes of each category.
    """
    probabilities = logits.softmax(dim=-1)
    return torch.stack([probabilities[:, list(classes)].mean(dim=1) for classes in members], dim=1)


@torch.no_grad()
def corruption_accuracy(
    classifier: Classifier,
    batches: Iterable[tuple[Tensor, Tensor]],
    corruptions: Sequence[str] = IMAGENET_C,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    generator: Generator | None = None,
) -> Tensor:
    """Return the accuracy (corruptions, severities) of a classifier on corrupted images, under a progress bar.

    Example: `load_metric("corruption_error").compute(predictions=corruption_accuracy(classifier, batches).tolist())`.

    Args:
        classifier: of images in [0, 1], such as `adversarial.Normalised`.
        batches: images (batch, 3, height, width), uint8 or from 0 to 1, and labels (batch,).
    """
    hits, total = torch.zeros(len(corruptions), len(severities)), 0
    for images, labels in tqdm(batches, desc="corruptions", unit="batch", leave=False):
        total += len(labels)
        for row, name in enumerate(corruptions):
            for column, severity in enumerate(severities):
                corrupted = corrupt(images, name, severity, generator)
                corrupted = corrupted.float() / 255 if corrupted.dtype == torch.uint8 else corrupted
                hits[row, column] += int((classifier(corrupted).argmax(dim=-1) == labels).sum())
    if not total:
        raise ValueError("expected at least one batch of images, got none")
    return hits / total


@torch.no_grad()
def loss_curve(
    classifier: Classifier, batches: Batches, changes: Mapping[float, Callable[[Tensor], Tensor]]
) -> dict[str, list[float] | float]:
    """Return what is left of a classifier at growing loss of information, see the metric `information_loss`.

    Example: `loss_curve(classifier, batches, occlusions((14, 14), generator=generator))`.

    Args:
        classifier: of images in [0, 1].
        batches: images (batch, channels, height, width) from 0 to 1, and labels (batch,).
        changes: {level: what it does to a batch of images}, rising; the first leaves images as they are.
    """
    logits: list[list[Tensor]] = [[] for _ in changes]
    labels = []
    for images, truth in tqdm(batches, desc="loss of information", unit="batch", leave=False):
        labels.append(truth)
        for kept, change in zip(logits, changes.values(), strict=True):
            kept.append(classifier(change(images)).cpu())
    if not labels:
        raise ValueError("expected at least one batch of images, got none")
    curves = torch.stack([torch.cat(parts) for parts in logits])
    return {
        "levels": list(changes),
        **information_loss(curves.numpy(), torch.cat(labels).cpu().numpy(), list(changes)),
    }


def occlusions(
    grid: tuple[int, int], tenths: Sequence[int] = range(10), generator: Generator | None = None, offset: int = 0
) -> dict[float, Callable[[Tensor], Tensor]]:
    """Return random occlusion for `loss_curve`: {fraction of cells removed: what it does to a batch}.

    evaluate.py draws the cells anew for every batch, the same for its images; d tenths remove d * cells // 10.
    """
    cells = grid[0] * grid[1]

    def change(count: int) -> Callable[[Tensor], Tensor]:
        def apply(images: Tensor) -> Tensor:
            return occlude(images, mask_of_cells(draw_cells(grid, count, generator), grid), offset)

        return apply

    return {tenth * cells // 10 / cells: change(tenth * cells // 10) for tenth in tenths}


def shuffles(
    grids: Sequence[tuple[int, int]], generator: Generator | None = None
) -> dict[float, Callable[[Tensor], Tensor]]:
    """Return shuffled patches for `loss_curve`: {number of pieces: what it does to a batch}; 1 leaves images alone."""

    def change(grid: tuple[int, int]) -> Callable[[Tensor], Tensor]:
        return lambda images: shuffle(images, draw_cells(grid, grid[0] * grid[1], generator), grid)

    return {1.0: lambda images: images} | {float(rows * columns): change((rows, columns)) for rows, columns in grids}
