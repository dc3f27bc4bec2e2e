"""k-nearest-neighbour (k-NN) classification of features, without training."""

import torch
from torch import Tensor

SIMILARITIES = 2**26  # computed at a time: a quarter of a GiB


@torch.no_grad()
def accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> dict[str, float]:
    """Return the accuracy of k-NN classification of test images (facebookresearch/dino, eval_knn.py).

    Example: `accuracy(*extract(encoder, train_loader), *extract(encoder, test_loader), k=20)["top1"]`.

    Args:
        train_features, test_features: (images, channels); they are normalised to length 1.
        train_labels, test_labels: (images,), from 0.
        k: number of neighbours that vote.
        temperature: divides their cosine similarities.

    Returns:
        top1 and top5, each from 0 to 1; with fewer than five neighbours top5 is top-k.

    Raises:
        ValueError: there are fewer training images than k.
    """
    return accuracies(train_features, train_labels, test_features, test_labels, [k], temperature)[k]


@torch.no_grad()
def accuracies(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    ks: list[int],
    temperature: float = 0.07,
) -> dict[int, dict[str, float]]:
    """Return `accuracy` for several k as {k: {"top1": ..., "top5": ...}}, with one search for neighbours."""
    num_classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    similarities, neighbours = nearest(test_features, train_features, max(ks))
    results = {}
    for k in ks:
        votes = count(similarities[:, :k], train_labels[neighbours[:, :k]], num_classes, temperature)
        results[k] = {"top1": top_accuracy(votes, test_labels), "top5": top_accuracy(votes, test_labels, min(5, k))}
    return results


@torch.no_grad()
def vote(
    features: Tensor, bank: Tensor, labels: Tensor, num_neighbours: int, num_classes: int, temperature: float = 0.07
) -> Tensor:
    """Return the votes of the nearest neighbours, each weighted by exp(cosine similarity / temperature).

    Sources: Wu et al., arXiv 1805.01978, section 3.4; facebookresearch/dino, eval_knn.py, `knn_classifier`.

    Args:
        features: (images, channels).
        bank: features of known images, (known images, channels).
        labels: classes of the known images, (known images,).

    Returns:
        (images, num_classes); the class with most votes is the prediction.

    Raises:
        ValueError: the bank has fewer images than `num_neighbours`.
    """
    similarities, neighbours = nearest(features, bank, num_neighbours)
    return count(similarities, labels[neighbours], num_classes, temperature)


def nearest(features: Tensor, bank: Tensor, num_neighbours: int) -> tuple[Tensor, Tensor]:
    """Find the images of a bank with the highest cosine similarity.

    Args:
        features: (images, channels).
        bank: (known images, channels).

    Returns:
        Similarities and indices in the bank, (images, num_neighbours) each, most similar first.

    Raises:
        ValueError: the bank has fewer images than `num_neighbours`.
    """
    if not 1 <= num_neighbours <= len(bank):
        raise ValueError(f"{num_neighbours} neighbours cannot be found among {len(bank)} images")
    bank = torch.nn.functional.normalize(bank, dim=1)
    parts = torch.nn.functional.normalize(features, dim=1).split(max(SIMILARITIES // len(bank), 1))
    found = [(part @ bank.T).topk(num_neighbours, dim=1) for part in parts]
    similarities, neighbours = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(neighbours)


def count(similarities: Tensor, labels: Tensor, num_classes: int, temperature: float) -> Tensor:
    """Return votes (images, num_classes) from the neighbours' similarities and labels (images, neighbours)."""
    votes = similarities.new_zeros(len(similarities), num_classes)
    return votes.scatter_add_(1, labels, (similarities / temperature).exp())


def top_accuracy(votes: Tensor, labels: Tensor, k: int = 1) -> float:
    """Return the fraction of images whose label (images,) is among the `k` classes of most votes (images, classes)."""
    ranked = votes.sort(dim=1, descending=True).indices[:, :k]
    return (ranked == labels[:, None]).any(dim=1).double().mean().item()
