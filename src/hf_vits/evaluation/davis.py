"""Label propagation through a video as DINO measures it on DAVIS.

facebookresearch/dino (eval_video_segmentation.py), used by mwalmer-umd/vit_analysis for every kind of ViT. The
propagation of SFC and CRW, with copies of the first frame and a round neighbourhood, is in `propagation`.
"""

from collections import deque

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

QUERIES = 1024  # cells of a frame that are compared at once


def square_neighbourhood(grid: tuple[int, int], radius: int) -> Tensor:
    """Return which cells lie within `radius` rows and columns of one another, (cells, cells) of bool."""
    places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1]))
    return ((places[:, None] - places[None]).abs() <= radius).all(dim=-1)


@torch.no_grad()
def propagate_segmentation(
    features: Tensor,
    first: Tensor,
    num_context: int = 7,
    radius: int = 12,
    topk: int = 5,
    temperature: float = 0.1,
) -> Tensor:
    """Return the class scores (frames - 1, classes, rows, columns) of all frames but the first.

    A cell's scores are those of its most similar cells in the first frame and in the `num_context` frames before it,
    weighted by exp(cosine similarity / temperature).

    Args:
        features: (frames, channels, rows, columns).
        first: scores (classes, rows, columns) of the first frame, such as one-hot classes.
        num_context: number of frames before the frame; the first frame always counts besides.
        radius: rows and columns within which cells are compared; 0 for no limit.
        topk: number of cells that count; of more cells with equal similarity, all do.

    Raises:
        ValueError: features and scores are not of one grid.
    """
    if features.shape[-2:] != first.shape[-2:]:
        raise ValueError(
            f"features and first frame must be of one grid, got {tuple(features.shape[-2:])} and "
            f"{tuple(first.shape[-2:])}"
        )
    grid = tuple(first.shape[-2:])
    cells = normalize(features.flatten(2), dim=1)
    start = first.flatten(1).to(cells)
    near = square_neighbourhood(grid, radius).to(cells.device) if radius else None
    context: deque[tuple[Tensor, Tensor]] = deque(maxlen=num_context)
    found = []
    for frame in cells[1:]:
        sources = [(cells[0], start), *context]
        keys, labels = (torch.cat(parts, dim=1) for parts in zip(*sources, strict=True))
        scores = []
        for chunk in torch.arange(frame.shape[1], device=cells.device).split(QUERIES):
            affinity = (keys.T @ frame[:, chunk] / temperature).exp()  # (cells of all contexts, queries)
            if near is not None:
                affinity *= near[:, chunk].repeat(len(sources), 1)
            least = affinity.topk(topk, dim=0).values[-1]
            affinity[affinity < least] = 0
            scores.append(labels @ (affinity / affinity.sum(dim=0)))
        result = torch.cat(scores, dim=1)
        context.append((frame, result))
        found.append(result.unflatten(1, grid))
    return torch.stack(found)


def segment(scores: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the classes (frames, height, width) and the stretched scores of propagated scores.

    Scores (frames, classes, rows, columns) are interpolated by `scale`, and each class of a frame is stretched to
    [0, 1]; the largest is the class of a pixel.
    """
    fine = interpolate(scores, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False)
    low = fine.amin(dim=(2, 3), keepdim=True)
    stretched = fine - low
    high = stretched.amax(dim=(2, 3), keepdim=True)
    stretched = torch.where(fine.amax(dim=(2, 3), keepdim=True) > 0, stretched / high, fine)
    return stretched.argmax(dim=1), stretched
