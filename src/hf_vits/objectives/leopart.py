"""Spatially dense clustering: Leopart, arXiv 2204.13101 (MkuuWaUjinga/leopart, src/leopart.py, `spatial_loss`)."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchvision.ops import roi_align

from .centering import is_distributed, mean_over_processes
from .dino import check_temperatures, number_of_pairs


@torch.no_grad()
def sinkhorn(scores: Tensor, temperature: float = 0.05, iterations: int = 3) -> Tensor:
    """Assign samples to prototypes so that all prototypes get the same mass (Sinkhorn-Knopp; SwAV, arXiv 2006.09882).

    Rows and columns of exp(scores / temperature) are scaled in turn; the scaling of rows comes last. The mass is equal
    over the samples of all processes.

    Args:
        scores: (samples, prototypes), cosine similarities.
        temperature: divides the scores; small values give hard assignments (the epsilon of the original).
        iterations: number of times that both are scaled.

    Returns:
        (samples, prototypes) in float32; each row sums to 1.
    """
    check_temperatures(temperature=temperature)
    scores = scores.float() / temperature
    highest = scores.max()
    if is_distributed():
        dist.all_reduce(highest, dist.ReduceOp.MAX)
    mass = (scores - highest).exp()
    prototypes, samples = mass.new_ones(mass.shape[1]), mass.new_ones(len(mass))
    for _ in range(iterations):
        # Each prototype gets as many samples; other constants would let the factors grow without limit.
        prototypes = len(mass) / mass.shape[1] / mean_over_processes(samples @ mass)
        samples = 1 / (mass @ prototypes)
    mass = mass * prototypes
    return mass / mass.sum(dim=1, keepdim=True)


def overlap_boxes(crops: Tensor, sizes: Sequence[tuple[int, int]], num_global: int) -> tuple[Tensor, Tensor]:
    """Return where each global crop and each crop of an image overlap, in the pixels of both.

    Args:
        crops: (..., crops, 4), left, top, right and bottom of every crop in the image's pixels, global crops first.
        sizes: (height, width) to which each crop is resized.

    Returns:
        (..., global crops, crops, 4) in the pixels of the resized global crop, and (..., crops, global crops, 4) in
        the pixels of the resized other crop.

    Raises:
        ValueError: a crop does not overlap a global crop.
    """
    globals_ = crops[..., :num_global, None, :]
    others = crops[..., None, :, :]
    start = torch.maximum(globals_[..., :2], others[..., :2])
    end = torch.minimum(globals_[..., 2:], others[..., 2:])
    if not (end > start).all():
        raise ValueError(
            "every crop must overlap every global crop of its image: draw crops again until they do (views.overlap "
            "in a recipe)"
        )
    extent = crops[..., 2:] - crops[..., :2]
    scale = torch.tensor([(width, height) for height, width in sizes], dtype=crops.dtype, device=crops.device)

    def within(points: Tensor, index: slice, axis: int) -> Tensor:
        """Map points (..., global crops, crops, 2) of the image into the frame of the crop along `axis`."""
        origin, length, size = (
            t.unsqueeze(axis) for t in (crops[..., index, :2], extent[..., index, :], scale[index])
        )
        return size * ((points - origin) / length)

    first, every = slice(num_global), slice(None)
    in_globals = torch.cat([within(points, first, -2) for points in (start, end)], dim=-1)
    in_others = torch.cat([within(points, every, -3) for points in (start, end)], dim=-1)
    return in_globals, in_others.transpose(-3, -2)


class EmbeddingQueue(nn.Module):
    """The latest embeddings of every global crop, which enlarge the clustering of a small batch.

    Args:
        num_crops: number of global crops.
        length: number of embeddings of each, 0 for no queue.
        channels: of an embedding.
        per_image: number of embeddings that every image of a batch adds, drawn at random from all of them.
    """

    embeddings: Tensor

    def __init__(self, num_crops: int, length: int, channels: int, per_image: int = 10):
        super().__init__()
        self.length, self.per_image = length, per_image
        self.register_buffer("embeddings", torch.zeros(num_crops, length, channels))

    def stored(self, crop: int) -> Tensor | None:
        """Return the embeddings (length, channels) of a global crop; None until the queue is full."""
        queue = self.embeddings[crop]
        return queue if self.length and bool(queue[-1].any()) else None

    @torch.no_grad()
    def push(self, crop: int, embeddings: Tensor, num_images: int) -> None:
        """Store some of a global crop's embeddings (number, channels), at most `per_image` times `num_images`."""
        if not self.length:
            return
        # The order is drawn on the CPU, as in the original.
        chosen = torch.randperm(len(embeddings))[: min(self.per_image * num_images, self.length)]
        kept = self.embeddings[crop, : self.length - len(chosen)].clone()
        self.embeddings[crop] = torch.cat([embeddings[chosen.to(embeddings.device)].to(kept.dtype), kept])


class LeopartLoss(nn.Module):
    """Cross-entropy between clusters of the same place in two crops of an image.

    Patches of each global crop of the teacher are assigned to prototypes by `sinkhorn` over the batch. From each other
    crop the student predicts the assignments where the crops overlap, which RoI-align samples in a regular grid.

    Args:
        temperature: divides the student's scores.
        sinkhorn_temperature, sinkhorn_iterations: see `sinkhorn`.
        roi_size: rows and columns that are sampled of each overlap.
        queue: embeddings of earlier batches; None for no queue.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        sinkhorn_temperature: float = 0.05,
        sinkhorn_iterations: int = 3,
        roi_size: int = 7,
        queue: EmbeddingQueue | None = None,
    ):
        super().__init__()
        check_temperatures(temperature=temperature, sinkhorn_temperature=sinkhorn_temperature)
        self.temperature = temperature
        self.sinkhorn_temperature = sinkhorn_temperature
        self.sinkhorn_iterations = sinkhorn_iterations
        self.roi_size = roi_size
        self.queue = queue

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Tensor,
        global_boxes: Tensor,
        crop_boxes: Tensor,
        embeddings: Tensor | None = None,
        prototypes: Tensor | None = None,
        region: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch; in training mode, also store embeddings in the queue.

        Args:
            student: scores of every crop, (batch, prototypes, rows, columns) each, global crops first.
            teacher: scores of the global crops, (global crops, batch, prototypes, rows, columns).
            global_boxes: (batch, global crops, crops, 4), overlaps in patches of the global crop, see `overlap_boxes`.
            crop_boxes: (batch, crops, global crops, 4), overlaps in patches of the other crop.
            embeddings: of the teacher, (global crops, batch, channels, rows, columns), for the queue.
            prototypes: of the student, (prototypes, channels), by which stored embeddings are scored.
            region: (global crops, batch, rows, columns), True for the patches that count; None for all.
        """
        num_crops, (num_global, batch) = len(student), teacher.shape[:2]
        expected = [(batch, num_global, num_crops, 4), (batch, num_crops, num_global, 4)]
        if [tuple(global_boxes.shape), tuple(crop_boxes.shape)] != expected:
            raise ValueError(
                f"global_boxes and crop_boxes of {batch} images with {num_crops} crops, {num_global} of them global, "
                f"must be {expected[0]} and {expected[1]}, got {tuple(global_boxes.shape)} and "
                f"{tuple(crop_boxes.shape)}"
            )
        total = student[0].new_zeros((), dtype=torch.float32)
        for target in range(num_global):
            others = [crop for crop in range(num_crops) if crop != target]
            assigned = self.assign(target, teacher[target], embeddings, prototypes, region)
            boxes = global_boxes[:, target, others]
            wanted = align(assigned, boxes, self.roi_size)
            counted = None if region is None else self.counted_cells(region[target], boxes)
            for index, crop in enumerate(others):
                scores = align(student[crop].float(), crop_boxes[:, crop, target, None], self.roi_size)[:, 0]
                entropy = -(wanted[:, index] * (scores / self.temperature).log_softmax(dim=1)).sum(dim=1)
                total = total + (entropy.mean() if counted is None else masked_mean(entropy, counted[:, index]))
        return total / number_of_pairs(num_crops, num_global), {}

    def counted_cells(self, region: Tensor, boxes: Tensor) -> Tensor:
        """Return 1 for each cell of boxes (batch, boxes, 4) that lies inside a region (batch, rows, columns), or 0.

        Rounding decides about cells whose value should be 1, also inside the region.
        """
        return (align(region[:, None].float(), boxes, self.roi_size)[:, :, 0] >= 1.0).float()

    def used_patches(
        self, grids: Sequence[tuple[int, int]], global_boxes: Tensor, crop_boxes: Tensor, region: Tensor | None
    ) -> list[Tensor]:
        """Return which of the student's patches the loss depends on, (batch, rows, columns) for each crop.

        Args:
            grids: (rows, columns) of each crop.
            global_boxes, crop_boxes, region: as in `forward`.
        """
        batch, num_global = global_boxes.shape[:2]
        with torch.enable_grad():
            maps = [global_boxes.new_zeros(batch, 1, *grid, requires_grad=True) for grid in grids]
            total = global_boxes.new_zeros(())
            for target in range(num_global):
                others = [crop for crop in range(len(grids)) if crop != target]
                counted = None
                if region is not None:
                    counted = self.counted_cells(region[target], global_boxes[:, target, others])
                for index, crop in enumerate(others):
                    cells = align(maps[crop], crop_boxes[:, crop, target, None], self.roi_size)[:, 0, 0]
                    total = total + (cells.sum() if counted is None else (cells * counted[:, index]).sum())
            return [weights[:, 0] != 0 for weights in torch.autograd.grad(total, maps)]

    @torch.no_grad()
    def assign(
        self,
        crop: int,
        scores: Tensor,
        embeddings: Tensor | None,
        prototypes: Tensor | None,
        region: Tensor | None,
    ) -> Tensor:
        """Return the assignments (batch, prototypes, rows, columns) of a global crop with these scores."""
        samples = scores.movedim(1, -1).flatten(0, -2)
        count = len(samples)
        if self.queue is not None and embeddings is not None and prototypes is not None:
            stored = self.queue.stored(crop)
            if stored is not None:
                samples = torch.cat([stored @ prototypes.float().T, samples.float()])
            if self.training:
                own = embeddings[crop].movedim(1, -1)
                own = own.flatten(0, -2) if region is None else own[region[crop]]
                self.queue.push(crop, own, len(scores))
        assigned = sinkhorn(samples, self.sinkhorn_temperature, self.sinkhorn_iterations)[-count:]
        return assigned.unflatten(0, (scores.shape[0], *scores.shape[2:])).movedim(-1, 1)


def align(maps: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Sample maps (batch, channels, rows, columns) in boxes (batch, boxes, 4).

    Returns (batch, boxes, channels, size, size).
    """
    index = torch.arange(len(maps), device=boxes.device, dtype=maps.dtype)
    rows = torch.cat([index[:, None, None].expand(-1, boxes.shape[1], 1), boxes.to(maps.dtype)], dim=-1)
    return roi_align(maps, rows.flatten(0, 1), size, aligned=True).unflatten(0, boxes.shape[:2])


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the values where the mask is 1; 0 for an empty mask."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
