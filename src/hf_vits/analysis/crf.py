"""Fully connected CRF over pixels, solved by mean field with Gaussian filters on a permutohedral lattice.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", arXiv 1210.5644;
Adams et al., "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax


@dataclass(frozen=True)
class CRF:
    """Weights and widths of the two kernels; the defaults are those of part co-segmentation.

    Attributes:
        gaussian_sxy, gaussian_compat: width in pixels and weight of the kernel over positions.
        bilateral_sxy, bilateral_srgb, bilateral_compat: widths in pixels and in grey levels, and weight, of the kernel
            over positions and colours.
        iterations: of mean field.
    """

    gaussian_sxy: float = 3
    gaussian_compat: float = 50
    bilateral_sxy: float = 5
    bilateral_srgb: float = 13
    bilateral_compat: float = 15
    iterations: int = 10


class Lattice:
    """Gaussian filter of width 1 over points (n, d), on the permutohedral lattice."""

    def __init__(self, points: np.ndarray):
        points = np.asarray(points, dtype=np.float32)
        count, d = points.shape
        index = np.arange(d)
        scale = np.float32(np.sqrt(2 / 3) * (d + 1)) / np.sqrt((index + 1) * (index + 2)).astype(np.float32)
        scaled = points * scale
        # Onto the plane of d + 1 coordinates whose sum is zero.
        later = np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]  # sums from each coordinate on
        elevated = np.zeros((count, d + 1), dtype=np.float32)
        elevated[:, :d] = later
        elevated[:, 1:] -= (index + 1) * scaled
        # The nearest lattice point of remainder 0, and the order of the differences from it.
        rounded = np.floor(elevated / (d + 1) + 0.5).astype(np.int64)
        origin = rounded * (d + 1)
        difference = elevated - origin
        order = np.argsort(-difference, axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(d + 1)[None].repeat(count, axis=0), axis=1)
        rank += rounded.sum(axis=1, keepdims=True)
        wrapped = np.where(rank < 0, d + 1, np.where(rank > d, -(d + 1), 0))
        rank, origin = rank + wrapped, origin + wrapped
        # Barycentric weights of the d + 1 corners of the simplex around each point.
        parts = (elevated - origin) / np.float32(d + 1)
        weights = np.zeros((count, d + 2), dtype=np.float32)
        rows = np.arange(count)[:, None]
        weights[rows, d - rank] += parts
        weights[rows, d + 1 - rank] -= parts
        weights[:, 0] += 1 + weights[:, d + 1]
        self.weights = weights[:, : d + 1]
        corners = np.arange(d + 1)[:, None]
        steps = np.where(np.arange(d + 1) <= d - corners, corners, corners - (d + 1))  # by corner, then rank
        keys = origin[:, None, :d] + steps[:, rank].transpose(1, 0, 2)[:, :, :d]
        unique, corner = np.unique(keys.reshape(-1, d), axis=0, return_inverse=True)
        self.corner = corner.reshape(count, d + 1)
        self.size, self.dimensions = len(unique), d
        self.neighbours = [self.find(unique, axis) for axis in range(d + 1)]

    def find(self, keys: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return each lattice point's two neighbours along an axis; `size` where there is none."""
        step = -np.ones(self.dimensions, dtype=np.int64)
        if axis < self.dimensions:
            step[axis] = self.dimensions
        low = keys.min(axis=0) - self.dimensions
        spans = keys.max(axis=0) + self.dimensions + 1 - low
        factors = np.cumprod(np.concatenate([[1], spans[:0:-1]]))[::-1]
        codes = (keys - low) @ factors  # ascending, since the keys are sorted
        found = []
        for sign in (1, -1):
            wanted = codes + sign * int(step @ factors)
            place = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
            found.append(np.where(codes[place] == wanted, place, self.size))
        return found[0], found[1]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Filter values (n, channels)."""
        channels = values.shape[1]
        lattice = np.zeros((self.size + 1, channels), dtype=np.float32)
        for corner in range(self.dimensions + 1):
            places, weights = self.corner[:, corner], self.weights[:, corner]
            for channel in range(channels):
                sums = np.bincount(places, weights=weights * values[:, channel], minlength=self.size + 1)
                lattice[:, channel] += sums.astype(np.float32)
        for first, second in self.neighbours:
            lattice[:-1] += 0.5 * (lattice[first] + lattice[second])
        filtered = (self.weights[:, :, None] * lattice[self.corner]).sum(axis=1)
        return filtered / np.float32(1 + 2.0**-self.dimensions)


def dense_crf(costs: np.ndarray, image: np.ndarray, crf: CRF) -> np.ndarray:
    """Return the labels' probabilities (labels, pixels) after mean field.

    Args:
        costs: unary energies, (labels, height * width).
        image: (height, width, 3) of grey levels from 0 to 255.

    Raises:
        ValueError: as many costs as pixels are needed.
    """
    height, width = image.shape[:2]
    if costs.shape[1] != height * width:
        raise ValueError(f"expected costs (labels, {height * width}) for {height} x {width} pixels, got {costs.shape}")
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2).astype(np.float32)
    colours = image.reshape(-1, 3).astype(np.float32)
    kernels = []
    for points, weight in (
        (places / np.float32(crf.gaussian_sxy), crf.gaussian_compat),
        (
            np.concatenate([places / np.float32(crf.bilateral_sxy), colours / np.float32(crf.bilateral_srgb)], axis=1),
            crf.bilateral_compat,
        ),
    ):
        lattice = Lattice(points)
        norm = 1 / np.sqrt(lattice(np.ones((height * width, 1), dtype=np.float32)) + 1e-20)
        kernels.append((lattice, norm, weight))
    unary = costs.T.astype(np.float32)
    belief = softmax(-unary, axis=1)
    for _ in range(crf.iterations):
        energy = -unary
        for lattice, norm, weight in kernels:
            energy = energy + weight * norm * lattice(norm * belief)
        belief = softmax(energy, axis=1)
    return belief.T
