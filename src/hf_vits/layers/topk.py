"""Differentiable selection of the k largest scores of a set.

Perturbed top-k: Cordonnier et al., "Differentiable Patch Selection for Image Recognition", arXiv 2104.03059,
section 3; Berthet et al., arXiv 2002.08676. Sinkhorn top-k: Xie et al., arXiv 2002.06504.
google-research/google-research, ptopk_patch_selection: lib/ops/perturbed_topk.py, lib/ops/topk.py.
"""

import math
from typing import Literal

import torch
from torch.nn.functional import one_hot

# Samples of noise whose scores are sorted at the same time; few enough for a processor's cache.
SAMPLES_AT_ONCE = 64


Order = Literal["position", "ascending", "descending"]


def topk_indices(scores: torch.Tensor, k: int, order: Order = "descending") -> torch.Tensor:
    """Return the indices (..., k) of the k largest of scores (..., cells).

    Args:
        order: "position" sorts by index, "ascending" and "descending" by score.
    """
    indices = scores.topk(k, dim=-1).indices
    if order == "position":
        return indices.sort(dim=-1).values
    return indices.flip(-1) if order == "ascending" else indices


def indicators_of(indices: torch.Tensor, num_cells: int) -> torch.Tensor:
    """Return one-hot rows (..., k, cells) of indices (..., k)."""
    return one_hot(indices, num_cells).to(torch.get_default_dtype())


def perturbed_topk(
    scores: torch.Tensor,
    k: int,
    sigma: float | torch.Tensor,
    num_samples: int = 500,
    noise: torch.Tensor | None = None,
    jacobian: Literal["diagonal", "full"] = "diagonal",
    order: Order = "position",
) -> torch.Tensor:
    """Return the mean, over noisy copies of the scores, of the one-hot rows of the k largest.

    The samples are processed in parts, and only the mean of their rows is kept: memory grows with neither
    `num_samples` x k x cells nor, unless the full Jacobian is asked for, `num_samples` x cells.

    Args:
        scores: (batch, cells).
        sigma: standard deviation of the noise. Where it is 0, the scores get no gradient.
        noise: (batch or 1, num_samples, cells), standard normal; None to draw it.
        jacobian: which derivatives of the expectation the backward pass estimates: "full", all; "diagonal", only
            those of each cell's indicator by its own score, as the original does.
        order: of the k largest of each copy; see `topk_indices`.

    Returns:
        Indicators (batch, k, cells).
    """
    check_topk(scores, k, noise, num_samples)
    values = scores.float()
    fixed = values.detach()
    batch, num_cells = values.shape
    sigma = torch.as_tensor(sigma, dtype=values.dtype, device=values.device)
    has_gradient = torch.is_grad_enabled() and scores.requires_grad
    change = (values - fixed) * torch.where(sigma > 0, 1 / sigma, 0.0)  # zero, with a gradient
    total = values.new_zeros(batch, k, num_cells)
    for start in range(0, num_samples, SAMPLES_AT_ONCE):
        count = min(SAMPLES_AT_ONCE, num_samples - start)
        if noise is None:
            part = torch.randn(batch, count, num_cells, device=values.device)
        else:
            part = noise[:, start : start + count].to(values).expand(batch, -1, -1)
        chosen = topk_indices(torch.addcmul(fixed[:, None], part, sigma), k, order)
        ones = values.new_ones(batch, count, k)
        if has_gradient and jacobian == "diagonal":
            own = change.gather(1, chosen.flatten(1)).view_as(ones)
            ones = ones + own * part.gather(2, chosen)
        elif has_gradient:
            ones = ones + (change[:, None] * part).sum(-1, keepdim=True)
        total = total.scatter_add(2, chosen.transpose(1, 2), ones.transpose(1, 2))
    return (total / num_samples).to(scores.dtype)


def check_topk(scores: torch.Tensor, k: int, noise: torch.Tensor | None, num_samples: int) -> None:
    """Raise ValueError unless there are k scores to select, and noise of their shape."""
    if scores.ndim != 2 or not 0 < k <= scores.shape[1]:
        raise ValueError(f"scores must be (batch, cells) with at least k={k} cells, got shape {tuple(scores.shape)}")
    shape = (scores.shape[0], num_samples, scores.shape[1])
    if noise is not None and tuple(noise.shape) not in (shape, (1, *shape[1:])):
        raise ValueError(f"noise must have shape {shape} (batch, samples, cells), got {tuple(noise.shape)}")


def fixed_noise(num_samples: int, num_cells: int, device: torch.device | None = None) -> torch.Tensor:
    """Return the same standard normal numbers (1, num_samples, num_cells) at each call, on any device.

    A hash of each number's index (Wang's, of 32 bits) gives uniform numbers, the Box-Muller transform normal ones.
    """
    count = num_samples * num_cells
    uniform = []
    for stream in range(2):
        bits = torch.arange(stream * count, (stream + 1) * count, device=device)
        for _ in range(2):
            bits = (((bits // 65536) ^ bits) * 0x45D9F3B) % 2**32
        bits = (bits // 65536) ^ bits
        uniform.append((bits.to(torch.float32) + 1) / (2**32 + 2))
    radius, angle = (-2 * uniform[0].log()).sqrt(), 2 * math.pi * uniform[1]
    return (radius * angle.cos()).view(1, num_samples, num_cells)


class SinkhornPlan(torch.autograd.Function):
    """Transport plan between uniform rows and columns of given masses, differentiated at the fixed point."""

    @staticmethod
    def forward(ctx, costs, masses, epsilon, num_iterations):
        """Return the plan (batch, n, m).

        Args:
            costs: (batch, n, m).
            masses: (m,), of the columns; each row has 1 / n.
        """
        num_rows = costs.shape[1]
        row_term, column_term = -epsilon * math.log(num_rows), epsilon * masses.log()
        rows, columns = costs.new_zeros(costs[:, :, :1].shape), costs.new_zeros(costs[:, :1].shape)
        for _ in range(num_iterations):
            rows = row_term - epsilon * torch.logsumexp((columns - costs) / epsilon, 2, keepdim=True)
            columns = column_term - epsilon * torch.logsumexp((rows - costs) / epsilon, 1, keepdim=True)
        plan = ((rows + columns - costs) / epsilon).exp()
        ctx.save_for_backward(plan, masses)
        ctx.epsilon = epsilon
        return plan

    @staticmethod
    def backward(ctx, gradient):
        """Return the gradient of the costs: arXiv 2002.06504, appendix, without its tensors of n x n numbers."""
        plan, masses = ctx.saved_tensors
        weighted, inner, num_rows = gradient * plan, plan[:, :, 1:], plan.shape[1]
        row_sums, column_sums = weighted.sum(2, keepdim=True), weighted.sum(1)[:, 1:, None]
        schur = torch.diag(masses[1:]) - num_rows * inner.mT @ inner
        step = torch.linalg.solve(schur, num_rows * inner.mT @ row_sums - column_sums)
        of_rows = num_rows * (row_sums + inner @ step)
        of_columns = torch.nn.functional.pad(-step, (0, 0, 1, 0)).mT
        return plan * (of_rows + of_columns - gradient) / ctx.epsilon, None, None, None


def sinkhorn_topk(scores: torch.Tensor, k: int, epsilon: float = 1e-4, num_iterations: int = 2000) -> torch.Tensor:
    """Return soft one-hot rows of the k largest scores, the largest last: optimal transport with an entropy term.

    Scores are transported to 0 (n - k of n of them) and to 1, ..., k, at squared distance. All is computed in double
    precision, which a small `epsilon` needs.

    Args:
        scores: (batch, cells).
        epsilon: weight of the entropy; the smaller, the harder the selection.

    Returns:
        Indicators (batch, k, cells).
    """
    check_topk(scores, k, None, 0)
    values, num_cells = scores.double(), scores.shape[1]
    places = torch.arange(k + 1, dtype=values.dtype, device=values.device)
    masses = torch.full_like(places, 1 / num_cells)
    masses[0] = (num_cells - k) / num_cells
    plan = SinkhornPlan.apply((values[:, :, None] - places) ** 2, masses, epsilon, num_iterations)
    return (num_cells * plan[:, :, 1:]).mT.to(scores.dtype)


def entropies(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the entropies (batch,), in nats, of probabilities (batch, cells)."""
    return torch.special.entr(probabilities).sum(dim=-1)
