"""Labels that follow their objects through a video, by the similarity of patch features alone.

Jabri et al., arXiv 2006.14613, section 4.1; facebookresearch/dino, eval_video_segmentation.py.
"""

import torch
from torch import Tensor


def neighbourhood(grid: tuple[int, int], radius: int, device: torch.device | str = "cpu") -> Tensor:
    """(places, places), True between places of a grid that are at most `radius` rows and columns apart."""
    rows, columns = (
        (torch.arange(size, device=device)[:, None] - torch.arange(size, device=device)).abs() <= radius
        for size in grid
    )
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2).flatten(0, 1)


@torch.no_grad()
def propagate(
    features: Tensor,
    context_features: Tensor,
    context_labels: Tensor,
    radius: int = 12,
    num_neighbours: int = 5,
    temperature: float = 0.1,
) -> Tensor:
    """Labels of a frame's patches from those of earlier frames.

    Every patch takes the mean of the labels of its most similar patches near its own place, weighted by the
    exponential of their cosine similarity over `temperature`; patches as similar as the last of them count too.

    Args:
        features: (patches, channels) of the frame.
        context_features: (frames, patches, channels).
        context_labels: (frames, classes, rows, columns), soft.
        radius: how far a patch looks, in rows and columns; 0 for everywhere.
        num_neighbours: how many patches of all frames together it takes.

    Returns:
        (classes, rows, columns).
    """
    grid = context_labels.shape[-2:]
    features, context_features = (torch.nn.functional.normalize(f, dim=-1) for f in (features, context_features))
    affinity = (features @ context_features.transpose(1, 2) / temperature).exp()
    if radius:
        affinity = affinity * neighbourhood(grid, radius, affinity.device)
    affinity = affinity.transpose(0, 1).flatten(1)  # a row per patch of the frame
    least = affinity.topk(num_neighbours, dim=1).values[:, -1:]
    affinity = affinity.where(affinity >= least, 0)
    affinity = affinity / affinity.sum(dim=1, keepdim=True)
    labels = context_labels.flatten(2).transpose(1, 2).flatten(0, 1)
    return (affinity @ labels).T.unflatten(1, grid)


def stretch(masks: Tensor) -> Tensor:
    """Soft masks (classes, rows, columns), each brought to values from 0 to 1; an empty one stays as it is."""
    low, high = masks.amin(dim=(1, 2), keepdim=True), masks.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > 0, (masks - low) / (high - low), masks)
