"""Classification by nearest neighbours: what features know without being trained further."""

import torch
from torch import Tensor

SIMILARITIES = 2**26  # that are held at once, a quarter of a GiB


@torch.no_grad()
def accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> dict[str, float]:
    """How often the nearest training images tell the class of a test image (facebookresearch/dino, eval_knn.py).

    Args:
        train_features, test_features: (images, channels); their length does not matter.
        train_labels, test_labels: (images,), from 0.
        k: how many neighbours vote.
        temperature: divides their cosine similarities.

    Returns:
        top1 and top5, each from 0 to 1; with fewer than five neighbours top5 counts as many classes as there are.

    Raises:
        ValueError: fewer training images than neighbours are asked for.
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
    """`accuracy` for several numbers of neighbours, {k: {"top1": ..., "top5": ...}}, which are searched for once."""
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
    """Votes of the nearest neighbours, each with the exponential of its cosine similarity over `temperature`.

    Wu et al., arXiv 1805.01978, section 3.4; facebookresearch/dino, eval_knn.py, `knn_classifier`.

    Args:
        features: (images, channels).
        bank: (known images, channels), with labels (known images,).

    Returns:
        (images, num_classes); the class of most votes is the prediction.

    Raises:
        ValueError: the bank has fewer images than neighbours are asked for.
    """
    similarities, neighbours = nearest(features, bank, num_neighbours)
    return count(similarities, labels[neighbours], num_classes, temperature)


def nearest(features: Tensor, bank: Tensor, num_neighbours: int) -> tuple[Tensor, Tensor]:
    """Cosine similarities of the most similar images of the bank, most similar first, and which these are.

    Args:
        features: (images, channels).
        bank: (known images, channels).

    Returns:
        (images, num_neighbours) each.
    """
    if not 1 <= num_neighbours <= len(bank):
        raise ValueError(f"{num_neighbours} neighbours cannot be found among {len(bank)} images")
    bank = torch.nn.functional.normalize(bank, dim=1)
    parts = torch.nn.functional.normalize(features, dim=1).split(max(SIMILARITIES // len(bank), 1))
    found = [(part @ bank.T).topk(num_neighbours, dim=1) for part in parts]
    similarities, neighbours = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(neighbours)


def count(similarities: Tensor, labels: Tensor, num_classes: int, temperature: float) -> Tensor:
    """Votes (images, num_classes) of neighbours, whose similarities and labels are (images, neighbours)."""
    votes = similarities.new_zeros(len(similarities), num_classes)
    return votes.scatter_add_(1, labels, (similarities / temperature).exp())


def top_accuracy(votes: Tensor, labels: Tensor, k: int = 1) -> float:
    """Part of the images whose label (images,) is among the `k` classes of most votes (images, classes)."""
    ranked = votes.sort(dim=1, descending=True).indices[:, :k]
    return (ranked == labels[:, None]).any(dim=1).double().mean().item()
