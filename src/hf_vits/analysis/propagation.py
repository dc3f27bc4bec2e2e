"""Video object segmentation by label propagation: labels follow patches with similar features from frame to frame.

Sources: Jabri et al., arXiv 2006.14613, section 4.1; facebookresearch/dino, eval_video_segmentation.py.
"""

import torch
from torch import Tensor


def neighbourhood(grid: tuple[int, int], radius: int, device: torch.device | str = "cpu") -> Tensor:
    """Return a mask (places, places), True between places of a grid at most `radius` rows and columns apart.

    Args:
        grid: (rows, columns); places are counted row by row.
    """
    rows, columns = (
        (torch.arange(size, device=device)[:, None] - torch.arange(size, device=device)).abs() <= radius
        for size in grid
    )
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2).flatten(0, 1)


@torch.no_grad()
def propagate_labels(
    features: Tensor,
    context_features: Tensor,
    context_labels: Tensor,
    radius: int = 12,
    num_neighbours: int = 5,
    temperature: float = 0.1,
) -> Tensor:
    """Return the labels of a frame's patches, propagated from earlier frames.

    A patch's label is the mean of the labels of its most similar patches within `radius`, weighted by
    exp(cosine similarity / temperature). Patches exactly as similar as the last of them count too.

    Example: `propagate_labels(tokens[1], tokens[:1], masks[:1])` for tokens (frames, patches, channels) of an encoder
    and masks (frames, classes, rows, columns).

    Args:
        features: of the frame, (patches, channels).
        context_features: of earlier frames, (frames, patches, channels).
        context_labels: probabilities (frames, classes, rows, columns).
        radius: largest distance between patches in rows and columns; 0 for no limit.
        num_neighbours: number of patches that are averaged, over all context frames.
        temperature: divides cosine similarities.

    Returns:
        Probabilities (classes, rows, columns).
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


def normalize_masks(masks: Tensor) -> Tensor:
    """Rescale each of the soft masks (classes, rows, columns) to values from 0 to 1; empty masks stay unchanged."""
    low, high = masks.amin(dim=(1, 2), keepdim=True), masks.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > 0, (masks - low) / (high - low), masks)


def propagate_video(
    features: Tensor,
    labels: Tensor,
    num_context: int = 7,
    radius: int = 12,
    num_neighbours: int = 5,
    temperature: float = 0.1,
) -> Tensor:
    """Return the labels of all later frames of a video, (frames - 1, classes, rows, columns).

    The context of a frame is the first frame and the `num_context` frames before it.

    Args:
        features: (frames, patches, channels).
        labels: probabilities of the first frame, (classes, rows, columns).
        radius, num_neighbours, temperature: as in `propagate_labels`.
    """
    known = [labels]
    for frame in range(1, len(features)):
        context = [0, *range(max(1, frame - num_context), frame)]
        sources = torch.stack([known[index] for index in context])
        known.append(
            propagate_labels(features[frame], features[context], sources, radius, num_neighbours, temperature)
        )
    return torch.stack(known[1:])


def label_maps(labels: Tensor, patch_size: int) -> Tensor:
    """Return the class of each pixel, (frames, height, width), of soft labels (frames, classes, rows, columns).

    Labels are upsampled by the patch size and rescaled per class from 0 to 1 before the largest is taken.
    """
    fine = torch.nn.functional.interpolate(labels, scale_factor=patch_size, mode="bilinear", align_corners=False)
    return torch.stack([normalize_masks(frame).argmax(dim=0) for frame in fine])
