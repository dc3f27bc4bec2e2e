"""How alike the representations of layers and models are, and what can be read from them.

Kornblith et al., "Similarity of Neural Network Representations Revisited", arXiv 1905.00414; Nguyen, Raghu and
Kornblith, arXiv 2010.15327 (google-research, efficient_CKA.py); Raghu et al., "Do Vision Transformers See Like
Convolutional Neural Networks?", arXiv 2108.08810; Walmer et al., arXiv 2212.03862 (mwalmer-umd/vit_analysis,
cka/cka_main.py); google-research/big_vision (evaluators/fewshot_lsr.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

Weighting = Literal["equal", "pairs", "scaled"]
WEIGHTINGS = ("equal", "pairs", "scaled")


def gram(features: Tensor) -> Tensor:
    """Return the linear Gram matrix (examples, examples) of features (examples, ...), flattened."""
    flat = features.flatten(1)
    return flat @ flat.T


def scaled_gram(features: Tensor) -> Tensor:
    """Return the Gram matrix minus its minimum, divided by the maximum of that, as vit_analysis has it."""
    matrix = gram(features)
    matrix = matrix - matrix.min()
    return matrix / matrix.max()


def unbiased_hsic(first: Tensor, second: Tensor) -> Tensor:
    """Return the unbiased estimate of HSIC of Gram matrices (..., n, n), which broadcast; it may be negative.

    Raises:
        ValueError: there are fewer than four examples.
    """
    count = first.shape[-1]
    if count < 4:
        raise ValueError(f"the unbiased estimate of HSIC needs batches of at least 4 examples, got {count}")
    without = 1 - torch.eye(count, dtype=first.dtype, device=first.device)
    first, second = first * without, second * without
    rows, columns = first.sum(dim=-1), second.sum(dim=-1)
    trace = (first * second).sum(dim=(-2, -1))  # of the product: both are symmetric
    sums = rows.sum(dim=-1) * columns.sum(dim=-1) / ((count - 1) * (count - 2))
    mixed = 2 * (rows * columns).sum(dim=-1) / (count - 2)
    return (trace + sums - mixed) / (count * (count - 3))


def biased_hsic(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of the products of centred Gram matrices (..., n, n), which is HSIC up to a factor."""

    def centred(matrix: Tensor) -> Tensor:
        rows = matrix - matrix.mean(dim=-1, keepdim=True)
        return rows - rows.mean(dim=-2, keepdim=True)

    return (centred(first) * centred(second)).sum(dim=(-2, -1))


def cka(first: Tensor, second: Tensor, unbiased: bool = False) -> Tensor:
    """Return linear CKA, a scalar, of two representations (examples, ...) of the same examples at once.

    Args:
        unbiased: whether HSIC is estimated without bias. The biased form, which is the usual one, is high for few
            examples.
    """
    hsic = unbiased_hsic if unbiased else biased_hsic
    one, other = gram(first), gram(second)
    return hsic(one, other) / (hsic(one, one) * hsic(other, other)).sqrt()


class MinibatchCKA:
    """Linear CKA of all pairs of two lists of representations, from batches of examples.

    Example: `for a, b in batches: measure.add(a, b)`, then `measure.result()`, a matrix (first, second).

    Args:
        weighting: how batches are averaged. "equal": unbiased HSIC of each, every batch with the same weight (Raghu et
            al.). "pairs": weighted by n (n - 3), as the authors of the estimator sum it; the same for batches of one
            size. "scaled": equal weights after `scaled_gram`, as in "Teaching Matters".
    """

    def __init__(self, weighting: Weighting = "equal"):
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
        self.weighting = weighting
        self.total: Tensor | None = None
        self.own: list[Tensor] = []
        self.weight = 0.0

    @torch.no_grad()
    def add(self, first: Sequence[Tensor], second: Sequence[Tensor] | None = None) -> None:
        """Add the representations (batch, ...) of a batch; without `second`, the first are compared with themselves.

        Raises:
            ValueError: a batch has fewer than four examples.
        """
        of = scaled_gram if self.weighting == "scaled" else gram
        ones = torch.stack([of(features) for features in first])
        others = ones if second is None else torch.stack([of(features) for features in second])
        count = ones.shape[-1]
        weight = float(count * (count - 3)) if self.weighting == "pairs" else 1.0
        crossed = products(ones, others) * weight
        own = [unbiased_hsic(matrices, matrices) * weight for matrices in (ones, others)]
        if self.total is None:
            self.total, self.own = crossed, own
        else:
            self.total = self.total + crossed
            self.own = [before + more for before, more in zip(self.own, own, strict=True)]
        self.weight += weight

    def result(self) -> Tensor:
        """Return CKA (first, second); a value may be negative or exceed 1, as the estimate is unbiased."""
        if self.total is None:
            raise ValueError("no batch was added")
        first, second = self.own
        return self.total / (first[:, None].sqrt() * second.sqrt())


def products(first: Tensor, second: Tensor) -> Tensor:
    """Return `unbiased_hsic` of every pair of Gram matrices (a, n, n) and (b, n, n), (a, b), by matrix products."""
    count = first.shape[-1]
    if count < 4:
        raise ValueError(f"the unbiased estimate of HSIC needs batches of at least 4 examples, got {count}")
    without = 1 - torch.eye(count, dtype=first.dtype, device=first.device)
    first, second = first * without, second * without
    rows, others = first.sum(dim=-1), second.sum(dim=-1)
    trace = first.flatten(1) @ second.flatten(1).T
    sums = torch.outer(rows.sum(dim=-1), others.sum(dim=-1)) / ((count - 1) * (count - 2))
    return (trace + sums - 2 * (rows @ others.T) / (count - 2)) / (count * (count - 3))


def compare_layers(
    batches: Iterable[tuple[Sequence[Tensor], Sequence[Tensor] | None]], weighting: Weighting = "equal"
) -> Tensor:
    """Return CKA (first layers, second layers) over batches of representations, with a progress bar."""
    measure = MinibatchCKA(weighting)
    for first, second in tqdm(batches, desc="CKA", unit="batch", leave=False, disable=None):
        measure.add(first, second)
    return measure.result()


def norm_ratios(skip: Tensor, branch: Tensor, num_prefix_tokens: int = 1) -> dict[str, Tensor]:
    """Return how large the skip input of a residual sum is beside its branch, per image (batch,) of three parts.

    Frobenius norms over tokens and channels, of "all" tokens, the "class" token, and the "patches" ("Teaching
    Matters"); `token_norm_ratios` has the ratio per token.

    Args:
        skip, branch: (batch, tokens, channels), the two addends of a residual sum.
    """
    parts = {"all": slice(None), "class": slice(0, 1), "patches": slice(num_prefix_tokens, None)}
    return {name: skip[:, part].norm(dim=(1, 2)) / branch[:, part].norm(dim=(1, 2)) for name, part in parts.items()}


def token_norm_ratios(skip: Tensor, branch: Tensor) -> Tensor:
    """Return the ratio of norms of skip input and branch (batch, tokens, channels) per token, (batch, tokens)."""
    return skip.norm(dim=-1) / branch.norm(dim=-1)


def localisation(states: Tensor, patches: Tensor) -> Tensor:
    """Return how much each token's state is about each input patch: CKA over images, (tokens, patches).

    Args:
        states: (batches, batch, tokens, channels), of one layer.
        patches: (batches, batch, patches, values), pixels of the input patches.
    """
    measure = MinibatchCKA()
    for state, pixels in zip(states, patches, strict=True):
        measure.add(state.unbind(1), pixels.unbind(1))
    return measure.result()


def receptive_field(
    forward: Callable[[Tensor], Tensor], pixel_values: Tensor, of_sum: bool = False, at_once: int = 16
) -> Tensor:
    """Return the effective receptive field (height, width): mean absolute gradient of a state by the pixels.

    Args:
        forward: maps pixel_values to the states (batch, channels) of the unit, such as the centre token of a layer.
        pixel_values: (batch, colours, height, width); the mean is over images and colours.
        of_sum: whether one gradient of the sum over channels is taken, which is another, cheaper quantity: there
            channels can cancel.
        at_once: channels whose gradients are computed in one batched backward pass.
    """
    with torch.enable_grad():
        inputs = pixel_values.detach().clone().requires_grad_()
        states = forward(inputs)
        if of_sum:
            (gradient,) = torch.autograd.grad(states.sum(), inputs)
            return gradient.abs().mean(dim=(0, 1))
        channels = states.shape[1]
        total = inputs.new_zeros(inputs.shape[-2:])
        sums = states.sum(dim=0)
        for start in range(0, channels, at_once):
            chosen = torch.eye(channels, dtype=sums.dtype, device=sums.device)[start : start + at_once]
            (gradients,) = torch.autograd.grad(
                sums, inputs, chosen, retain_graph=start + at_once < channels, is_grads_batched=True
            )
            total += gradients.abs().mean(dim=(1, 2)).sum(dim=0)
    return total / channels


class RidgeProbe:
    """Closed-form linear probe: ridge regression on targets of -1 and +1 (big_vision, fewshot_lsr.py).

    Features are standardised by the mean and the population standard deviation of the training set, and `bias` is
    appended, so large that the regression hardly shrinks it.

    Args:
        l2: strength of the ridge.
        bias: constant feature.
        epsilon: added to the standard deviation.
    """

    def __init__(self, l2: float = 1024.0, bias: float = 100.0, epsilon: float = 1e-5):
        self.l2, self.bias, self.epsilon = l2, bias, epsilon

    def fit(self, features: Tensor, labels: Tensor, num_classes: int) -> "RidgeProbe":
        """Fit to features (..., examples, channels) and labels (examples,); leading axes are probes of their own."""
        self.mean = features.mean(dim=-2, keepdim=True)
        self.deviation = features.std(dim=-2, correction=0, keepdim=True) + self.epsilon
        inputs = self.prepared(features)
        targets = torch.nn.functional.one_hot(labels, num_classes).to(features.dtype) * 2 - 1
        examples, channels = inputs.shape[-2:]
        # The dual form gives the same weights, and is the smaller system where features outnumber examples.
        if channels <= examples:
            identity = torch.eye(channels, dtype=inputs.dtype, device=inputs.device)
            self.weight = torch.linalg.solve(inputs.mT @ inputs + self.l2 * identity, inputs.mT @ targets)
        else:
            identity = torch.eye(examples, dtype=inputs.dtype, device=inputs.device)
            targets = targets.expand(*inputs.shape[:-2], -1, -1)
            self.weight = inputs.mT @ torch.linalg.solve(inputs @ inputs.mT + self.l2 * identity, targets)
        return self

    def prepared(self, features: Tensor) -> Tensor:
        standardised = (features - self.mean) / self.deviation
        return torch.cat([standardised, torch.full_like(standardised[..., :1], self.bias)], dim=-1)

    def scores(self, features: Tensor) -> Tensor:
        """Return the scores (..., examples, classes) of features (..., examples, channels)."""
        return self.prepared(features) @ self.weight

    def accuracy(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the fraction (...) of examples whose class has the highest score."""
        return (self.scores(features).argmax(dim=-1) == labels).double().mean(dim=-1)


class ClusterScores(NamedTuple):
    """Agreement of clusters with classes: normalised mutual information, adjusted Rand index and purity."""

    nmi: float
    ari: float
    purity: float


def cluster_scores(labels: np.ndarray, clusters: np.ndarray) -> ClusterScores:
    """Return how well clusters (examples,) agree with classes (examples,)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(labels, clusters)
    return ClusterScores(
        float(normalized_mutual_info_score(labels, clusters)),
        float(adjusted_rand_score(labels, clusters)),
        float(counts.max(axis=0).sum() / counts.sum()),
    )


def clusterability(features: np.ndarray, labels: np.ndarray, num_clusters: int, starts: int = 10) -> ClusterScores:
    """Return the scores of k-means clusters of features (examples, channels), of scikit-learn with seed 0."""
    from sklearn.cluster import KMeans

    found = KMeans(n_clusters=num_clusters, random_state=0, n_init=starts).fit(features)
    return cluster_scores(labels, found.labels_)


def best_layers(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, int]]:
    """Return {model: {task: layer with the highest score, counted from 1}} from the scores of each layer."""
    return {
        model: {task: int(np.argmax(values)) + 1 for task, values in tasks.items()} for model, tasks in scores.items()
    }
