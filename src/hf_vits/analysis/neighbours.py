"""Classification by nearest neighbours: what features know without being trained further."""

import torch
from torch import Tensor

CHUNK = 1024  # images whose similarities with all of the bank are held at once


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
    if not 1 <= num_neighbours <= len(bank):
        raise ValueError(f"{num_neighbours} neighbours cannot be found among {len(bank)} images")
    bank = torch.nn.functional.normalize(bank, dim=1)
    votes = []
    for part in torch.nn.functional.normalize(features, dim=1).split(CHUNK):
        similarities, neighbours = (part @ bank.T).topk(num_neighbours, dim=1)
        weights = (similarities / temperature).exp()
        counted = weights.new_zeros(len(part), num_classes)
        votes.append(counted.scatter_add_(1, labels[neighbours], weights))
    return torch.cat(votes)


def top_accuracy(votes: Tensor, labels: Tensor, k: int = 1) -> float:
    """Part of the images whose label (images,) is among the `k` classes of most votes (images, classes)."""
    ranked = votes.sort(dim=1, descending=True).indices[:, :k]
    return (ranked == labels[:, None]).any(dim=1).double().mean().item()
