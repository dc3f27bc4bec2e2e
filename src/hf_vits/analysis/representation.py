"""What the layers of a model represent: their similarity (CKA), probes, localisation, receptive fields, clusters.

Sources: Kornblith et al., arXiv 1905.00414, for CKA; Nguyen et al., arXiv 2010.15327 (google-research,
do_wide_and_deep_networks_learn_the_same_things/efficient_CKA.py), for its minibatch estimate; Raghu et al., arXiv
2108.08810; Walmer et al., arXiv 2212.03862 (mwalmer-umd/vit_analysis, cka/cka_main.py and cka/utils.py); for the
closed-form probe google-research/big_vision, evaluators/fewshot_lsr.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.cluster import KMeans
from torch import Tensor, nn
from tqdm import tqdm

from hf_vits.metrics.clustering import adjusted_rand_index, normalized_mutual_information, purity

from .taps import record

Tokens = Literal["all", "class", "patches", "patch_mean"]
Weighting = Literal["batches", "pairs", "range"]

BIAS = 100.0  # constant feature of the closed-form probe, so large that the bias is hardly regularised


def gram(features: Tensor) -> Tensor:
    """Return the inner products (images, images) of features (images, ...)."""
    flat = features.flatten(1)
    return flat @ flat.T


def select_tokens(features: Tensor, tokens: Tokens, num_prefix_tokens: int = 1) -> Tensor:
    """Return part of features (images, tokens, channels): all tokens, the class token, the patches or their mean.

    Raises:
        ValueError: another name, or the class token of features without one.
    """
    if tokens == "all":
        return features
    if tokens == "class" and num_prefix_tokens:
        return features[:, 0]
    if tokens == "patches":
        return features[:, num_prefix_tokens:]
    if tokens == "patch_mean":
        return features[:, num_prefix_tokens:].mean(dim=1)
    raise ValueError(
        f"tokens must be all, class, patches or patch_mean, and class needs a class token; got {tokens!r} with "
        f"{num_prefix_tokens} prefix tokens"
    )


def hsic(first: Tensor, second: Tensor, unbiased: bool = True) -> Tensor:
    """Return the Hilbert-Schmidt independence criterion of two Gram matrices (images, images).

    Args:
        unbiased: the unbiased estimate, for four images or more (arXiv 2010.15327, equation 3), or the biased one,
            of centred Gram matrices.

    Raises:
        ValueError: there are fewer than four images for the unbiased estimate.
    """
    if unbiased:
        return cross_hsic(first[None], second[None])[0, 0]
    count = len(first)
    first, second = first.double(), second.double()
    centred = first - first.mean(dim=0) - first.mean(dim=1, keepdim=True) + first.mean()
    return (centred * second).sum() / (count - 1) ** 2


def cross_hsic(first: Tensor, second: Tensor, scaled: bool = True) -> Tensor:
    """Return the unbiased HSIC of all pairs, (n, m), of Gram matrices (n, images, images) and (m, images, images).

    Args:
        scaled: whether it is divided by images * (images - 3), as the criterion is.
    """
    count = first.shape[-1]
    if count < 4:
        raise ValueError(f"the unbiased CKA needs batches of four images or more, got {count}")
    first, second = (without_diagonal(grams) for grams in (first, second))
    rows, others = first.sum(dim=2), second.sum(dim=2)
    totals, other_totals = rows.sum(dim=1), others.sum(dim=1)
    result = first.flatten(1) @ second.flatten(1).T
    result = result + totals[:, None] * other_totals / ((count - 1) * (count - 2))
    result = result - 2 / (count - 2) * (rows @ others.T)
    return result / (count * (count - 3)) if scaled else result


def without_diagonal(grams: Tensor) -> Tensor:
    """Return Gram matrices (n, images, images) in float64 with zeros on their diagonals."""
    grams = grams.double().clone()
    grams.diagonal(dim1=1, dim2=2).zero_()
    return grams


def cka(first: Tensor, second: Tensor, unbiased: bool = False) -> float:
    """Return the linear centred kernel alignment (CKA) of features (images, ...) of the same images.

    Args:
        unbiased: the unbiased estimate can be negative or exceed 1; the biased one lies from 0 to 1, depends on the
            number of images and is high for few.
    """
    grams = gram(first), gram(second)
    own = [hsic(g, g, unbiased) for g in grams]
    return float(hsic(*grams, unbiased) / (own[0] * own[1]).sqrt())


class MinibatchCKA:
    """Linear CKA of all pairs of layers, from the unbiased HSIC of batches.

    Numerator and both denominators are summed over batches before the ratio.

    Example: `similarity = MinibatchCKA(); similarity.update(layers, others); similarity.compute()`.

    Args:
        weighting: what a batch of n images counts. "batches": every batch the same (Raghu et al.). "pairs": n (n - 3),
            as the U-statistics that Nguyen et al. sum up; the same for batches of one size. "range": as "batches", but
            each Gram matrix is scaled to values from 0 to 1 first (vit_analysis), which weighs batches by range.
    """

    def __init__(self, weighting: Weighting = "batches"):
        if weighting not in ("batches", "pairs", "range"):
            raise ValueError(f"weighting must be batches, pairs or range, got {weighting!r}")
        self.weighting = weighting
        self.cross: Tensor | float = 0.0
        self.own: list[Tensor | float] = [0.0, 0.0]

    def grams(self, layers: Sequence[Tensor]) -> Tensor:
        """Return the Gram matrices (layers, images, images) of features (images, ...)."""
        grams = torch.stack([gram(features).double() for features in layers])
        if self.weighting == "range":
            grams = grams - grams.amin(dim=(1, 2), keepdim=True)
            grams = grams / grams.amax(dim=(1, 2), keepdim=True)
        return grams

    @torch.no_grad()
    def update(self, first: Sequence[Tensor], second: Sequence[Tensor] | None = None) -> None:
        """Add a batch: features (images, ...) of each layer on both sides; None: both sides are the same.

        Raises:
            ValueError: there are fewer than four images.
        """
        scaled = self.weighting != "pairs"
        grams = self.grams(first)
        if second is None:
            cross = cross_hsic(grams, grams, scaled)
            own = [cross.diagonal(), cross.diagonal()]
        else:
            others = self.grams(second)
            cross = cross_hsic(grams, others, scaled)
            own = [own_hsic(g, scaled) for g in (grams, others)]
        self.cross = self.cross + cross
        self.own = [total + value for total, value in zip(self.own, own, strict=True)]

    def compute(self) -> Tensor:
        """Return the CKA (layers of the first side, layers of the second), float64.

        Raises:
            ValueError: there was no batch.
        """
        if isinstance(self.cross, float):
            raise ValueError("expected at least one batch of features, got none")
        first, second = (torch.as_tensor(own) for own in self.own)
        return self.cross / (first[:, None].sqrt() * second.sqrt())


def own_hsic(grams: Tensor, scaled: bool) -> Tensor:
    """Return the unbiased HSIC (n,) of Gram matrices (n, images, images) with themselves."""
    count = grams.shape[-1]
    grams = without_diagonal(grams)
    rows = grams.sum(dim=2)
    result = grams.square().sum(dim=(1, 2)) + rows.sum(dim=1).square() / ((count - 1) * (count - 2))
    result = result - 2 / (count - 2) * rows.square().sum(dim=1)
    return result / (count * (count - 3)) if scaled else result


def compare_layers(
    model: nn.Module,
    batches: Iterable[Any],
    other: nn.Module | None = None,
    layers: Sequence[int] | None = None,
    facet: str = "blocks",
    tokens: Tokens = "all",
    weighting: Weighting = "batches",
) -> Tensor:
    """Return the CKA between layers of one model or of two, (layers, layers), with a progress bar.

    Example: `plot_similarity(compare_layers(dino, loader, mae, tokens="patches"))`.

    Args:
        batches: pixel_values, or dictionaries with pixel_values, of the same images for both models.
        other: the model of the columns; None: the same model.
        layers: indices of blocks in both models; None for all.
        facet: what is compared, see `taps.FACETS`, such as "blocks" or "norm1".
        tokens: see `select_tokens`.
        weighting: see `MinibatchCKA`.
    """
    similarity = MinibatchCKA(weighting)
    for batch in tqdm(batches, desc="CKA", unit="batch", leave=False, disable=None):
        pixels = batch["pixel_values"] if isinstance(batch, Mapping) else batch
        sides = []
        for encoder in (model, other):
            if encoder is None:
                continue
            seen = record(encoder, pixels, facet, layers)
            sides.append([select_tokens(f, tokens, seen.num_prefix_tokens) for f in getattr(seen, facet)])
        similarity.update(*sides)
    return similarity.compute()


def features_by_layer(
    model: nn.Module, batches: Iterable[Any], tokens: Tokens = "class", layers: Sequence[int] | None = None
) -> list[Tensor]:
    """Return features (images, ...) of each block over a data loader, with a progress bar.

    Args:
        batches: pixel_values, or dictionaries with pixel_values.
        tokens: see `select_tokens`.
    """
    parts: list[list[Tensor]] = []
    for batch in tqdm(batches, desc="Features", unit="batch", leave=False, disable=None):
        pixels = batch["pixel_values"] if isinstance(batch, Mapping) else batch
        seen = record(model, pixels, "blocks", layers)
        parts.append([select_tokens(block, tokens, seen.num_prefix_tokens) for block in seen.blocks])
    if not parts:
        raise ValueError("expected at least one batch of images, got none")
    return [torch.cat(blocks) for blocks in zip(*parts, strict=True)]


def localisation(tokens: Tensor, patches: Tensor, batches: Sequence[int] | None = None) -> Tensor:
    """Return the CKA over images between each token's state and the pixels of each patch, (tokens, patches).

    Args:
        tokens: (images, tokens, channels).
        patches: pixels (images, patches, values), see `pixel_patches`.
        batches: sizes of the batches of the minibatch estimate; None: one batch.
    """
    similarity = MinibatchCKA()
    sizes = [len(tokens)] if batches is None else list(batches)
    for own, pixels in zip(tokens.split(sizes), patches.split(sizes), strict=True):
        similarity.update(own.unbind(1), pixels.unbind(1))
    return similarity.compute()


def pixel_patches(pixel_values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the pixels of each patch, (images, patches, values), of images (images, channels, height, width)."""
    size = pixel_values.shape[2] // grid[0], pixel_values.shape[3] // grid[1]
    return nn.functional.unfold(pixel_values, size, stride=size).mT


@torch.enable_grad()
def receptive_field(
    model: nn.Module,
    pixel_values: Tensor,
    layers: Sequence[int] | None = None,
    token: int | None = None,
    channel_sum: bool = False,
) -> Tensor:
    """Return the effective receptive field of a token by block, (layers, height, width), with a progress bar.

    It is the absolute gradient of each channel of the token after the block with respect to the pixels, averaged over
    the token's channels, the images and the colours.

    Args:
        token: index of the token; None for the one in the centre of each block's grid.
        channel_sum: take the gradient of the sum of all channels, with one backward pass instead of one for each.
            It is another quantity, in which channels cancel each other out.
    """
    pixel_values = pixel_values.detach().clone().requires_grad_()
    seen = record(model, pixel_values, "blocks", layers, gradients=True)
    fields = []
    for block, grid in tqdm(list(zip(seen.blocks, seen.grids, strict=True)), desc="receptive fields", disable=None):
        if token is None and grid is None:
            raise ValueError("the tokens of a block are no grid: name the token")
        place = token
        if place is None:
            rows, columns = grid or (1, 1)
            place = seen.num_prefix_tokens + (rows - 1) // 2 * columns + (columns - 1) // 2
        state = block[:, place].sum(dim=0)
        targets = [state.sum()] if channel_sum else list(state)
        total = torch.zeros_like(pixel_values[0, 0])
        for target in targets:
            (gradient,) = torch.autograd.grad(target, pixel_values, retain_graph=True)
            total += gradient.abs().mean(dim=(0, 1))
        fields.append(total / len(targets))
    return torch.stack(fields).detach()


@torch.no_grad()
def ridge_probe(
    train: Tensor, labels: Tensor, test: Tensor, num_classes: int | None = None, l2: float = 1024.0, bias: float = BIAS
) -> Tensor:
    """Return the scores (test images, classes) of a linear probe that is fitted in closed form, by ridge regression.

    Features are standardised with the mean and deviation of the training images, and the constant `bias` is appended.
    The targets are 1 for the class of an image and -1 for the others. Where there are more features than images the
    dual form is solved, whose result is the same.

    Args:
        train, test: features (images, channels).
        labels: classes of the training images, from 0.
        num_classes: None: one more than the largest label.
        l2: weight of the squared weights.

    Raises:
        ValueError: features that are not (images, channels), or of another number than labels.
    """
    if train.ndim != 2 or test.ndim != 2 or len(train) != len(labels):
        raise ValueError(
            f"features must be (images, channels) with a label each, got {tuple(train.shape)} and {tuple(test.shape)} "
            f"with {len(labels)} labels"
        )
    train, test = train.double(), test.double()
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0) + 1e-5
    train, test = (nn.functional.pad((features - mean) / deviation, (0, 1), value=bias) for features in (train, test))
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    targets = 2 * nn.functional.one_hot(labels.long(), num_classes).double() - 1
    if train.shape[1] > len(train):
        kernel = train @ train.T + l2 * torch.eye(len(train), dtype=train.dtype, device=train.device)
        weights = train.T @ torch.linalg.solve(kernel, targets)
    else:
        covariance = train.T @ train + l2 * torch.eye(train.shape[1], dtype=train.dtype, device=train.device)
        weights = torch.linalg.solve(covariance, train.T @ targets)
    return test @ weights


def linear_probe(
    train: Tensor, labels: Tensor, test: Tensor, num_classes: int | None = None, l2: float = 1.0, iterations: int = 100
) -> Tensor:
    """Return the scores (test images, classes) of logistic regression on standardised features, fitted with L-BFGS.

    Args:
        train, labels, test, num_classes: as in `ridge_probe`.
        l2: weight of half the squared weights beside the summed loss; the bias has none.
    """
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0) + 1e-5
    train, test = ((features - mean).float() / deviation for features in (train, test))
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    classifier = nn.Linear(train.shape[1], num_classes, device=train.device)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    optimizer = torch.optim.LBFGS(classifier.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        error = nn.functional.cross_entropy(classifier(train), labels.long(), reduction="sum")
        value = (error + l2 / 2 * classifier.weight.square().sum()) / len(train)
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return classifier(test).detach()


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Return the fraction of images whose highest score is their class's."""
    return float((scores.argmax(dim=-1) == labels).double().mean())


def probe_layers(
    train: Sequence[Tensor],
    labels: Tensor,
    test: Sequence[Tensor],
    test_labels: Tensor,
    kind: Literal["ridge", "linear"] = "ridge",
    **kwargs,
) -> list[float]:
    """Return the accuracy of a probe of each layer.

    Example: `probe_layers(features_by_layer(model, train), labels, features_by_layer(model, test), test_labels)`.

    Args:
        train, test: features (images, channels) of each layer.
        kwargs: of `ridge_probe` or `linear_probe`.
    """
    probe = {"ridge": ridge_probe, "linear": linear_probe}[kind]
    return [
        accuracy(probe(own, labels, tested, **kwargs), test_labels) for own, tested in zip(train, test, strict=True)
    ]


def cluster_scores(features: Tensor, labels: Tensor, num_clusters: int, seed: int = 0) -> dict[str, float]:
    """Return normalized_mutual_information, adjusted_rand_index and purity of k-means clusters of features.

    Args:
        features: (images, channels).
        labels: true classes (images,), any integers.
    """
    clusters = KMeans(n_clusters=num_clusters, random_state=seed, n_init=10).fit_predict(features.cpu().numpy())
    truth = labels.cpu().numpy()
    return {
        "normalized_mutual_information": normalized_mutual_information(truth, clusters),
        "adjusted_rand_index": adjusted_rand_index(truth, clusters),
        "purity": purity(truth, clusters),
    }


def best_layers(scores: Mapping[str, Sequence[float]], higher_is_better: bool = True) -> list[dict[str, Any]]:
    """Return the best layer of each model as rows {model, best_layer, num_layers, score}; layers count from 1.

    Args:
        scores: {model: a score per layer}.
    """
    rows = []
    for name, values in scores.items():
        best = int(np.argmax(values) if higher_is_better else np.argmin(values))
        rows.append({"model": name, "best_layer": best + 1, "num_layers": len(values), "score": values[best]})
    return rows


def plot_similarity(similarity: Tensor, labels: tuple[str, str] = ("block", "block")) -> Figure:
    """Draw a CKA matrix (layers, layers), the first layer at the lower left.

    Args:
        labels: names of rows and columns, such as the two models.
    """
    rows, columns = similarity.shape
    figure = Figure(figsize=(4.6, min(max(3.4 * rows / columns, 1.6), 6) + 0.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(
        similarity.float().cpu().numpy(),
        origin="lower",
        cmap="magma",
        vmin=0,
        vmax=1,
        extent=(0.5, columns + 0.5, 0.5, rows + 0.5),
    )
    axes.set(ylabel=labels[0], xlabel=labels[1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.colorbar(image, ax=axes, label="CKA")
    return figure


def plot_receptive_fields(fields: Tensor) -> Figure:
    """Draw receptive fields (layers, height, width) side by side, each on its own logarithmic scale."""
    figure = Figure(figsize=(1.6 * len(fields), 1.9), layout="constrained")
    for layer, (axes, values) in enumerate(
        zip(figure.subplots(1, len(fields), squeeze=False)[0], fields, strict=True)
    ):
        values = values / values.max().clamp(min=torch.finfo(values.dtype).tiny)
        axes.imshow((values + 1e-3).log10().cpu().numpy(), cmap="magma")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"block {layer + 1}", fontsize=8)
    return figure
