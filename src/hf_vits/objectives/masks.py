"""Masks of patches: random, in blocks, or guided by a teacher's attention.

Masks are True where a patch is masked. The caller passes the random generator, so that a run can be repeated exactly.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RandomMask:
    """Masks of a batch, different for each image but with the same number of visible patches.

    kept, removed: (batch, kept patches) and (batch, masked patches), indices of the patches, in shuffled order.
    restore: (batch, patches), index of each patch in the sequence of visible patches followed by masked patches.
    mask: (batch, patches), True where a patch is masked.
    """

    kept: Tensor
    removed: Tensor
    restore: Tensor
    mask: Tensor


def random_mask(noise: Tensor, ratio: float) -> RandomMask:
    """Mask all patches but those of smallest noise: MAE's random masking (facebookresearch/mae, models_mae.py).

    Args:
        noise: (batch, patches), random numbers; only their order matters.
        ratio: fraction of the patches that is masked; the number of visible patches is rounded down.
    """
    return mask_by_order(noise.argsort(dim=1), ratio)


def mask_by_order(order: Tensor, ratio: float) -> RandomMask:
    """Mask the last patches of a permutation.

    Args:
        order: (batch, patches), indices of the patches of each image, each once.
        ratio: as in `random_mask`.
    """
    restore = order.argsort(dim=1)
    num_kept = kept_patches(order.shape[1], ratio)
    return RandomMask(order[:, :num_kept], order[:, num_kept:], restore, restore >= num_kept)


def semantic_order(importance: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a permutation of the patches in which important ones tend to come first, and so to stay visible.

    MILAN's semantic-aware masking (arXiv 2208.06049, section 3.3; zejiangh/MILAN, models_milan.py,
    `attention_masking`): patches are drawn one after the other without replacement.

    Args:
        importance: (batch, patches), weights of the patches, such as the attention of a class token.
        generator: random generator on the device of `importance`.
    """
    weights = importance.float()
    # A weight of zero, to which softmax underflows, could not be drawn.
    weights = weights.clamp(min=torch.finfo(weights.dtype).tiny)
    # As torch.multinomial draws without replacement, in operations that a run can divide among processes.
    waits = torch.empty_like(weights).exponential_(generator=generator)
    return (weights / waits).argsort(dim=1, descending=True)


def kept_patches(num_patches: int, ratio: float) -> int:
    """Return the number of visible patches; ValueError where it is zero."""
    kept = int(num_patches * (1 - ratio)) if 0 <= ratio < 1 else 0
    if not kept:
        raise ValueError(f"mask_ratio={ratio} leaves none of {num_patches} patches visible: lower it")
    return kept


class MaskRatio:
    """Random mask ratio: a uniform draw from one of several ranges, as in iBOT (bytedance/ibot, loader.py).

    Args:
        means, spreads: ranges from mean - spread to mean + spread; one of them is chosen at random. Means (0, 0.3)
            with spreads (0, 0.2) leave half of the views without a mask.
        first_epoch: first epoch with masks; the ratio is 0 before.
    """

    def __init__(self, means: float | Sequence[float], spreads: float | Sequence[float] = 0.0, first_epoch: int = 0):
        self.means = as_tuple(means)
        spreads = as_tuple(spreads)
        self.spreads = spreads * len(self.means) if len(spreads) == 1 else spreads
        self.first_epoch = first_epoch
        if len(self.spreads) != len(self.means):
            raise ValueError(f"one spread, or one per mean, is needed: got means {means} and spreads {spreads}")
        for mean, spread in zip(self.means, self.spreads, strict=True):
            if not 0 <= spread <= mean or mean + spread > 1:
                raise ValueError(f"a mask ratio must stay in [0, 1], got {mean} +- {spread}")

    def draw(self, generator: random.Random, epoch: int | None = None) -> float:
        """Draw a ratio; `epoch` None for any epoch from `first_epoch` on."""
        if epoch is not None and epoch < self.first_epoch:
            return 0.0
        drawn = [
            generator.uniform(mean - spread, mean + spread) if spread > 0 else mean
            for mean, spread in zip(self.means, self.spreads, strict=True)
        ]
        return generator.choice(drawn) if len(drawn) > 1 else drawn[0]


def as_tuple(values: float | Sequence[float]) -> tuple[float, ...]:
    return (values,) if isinstance(values, int | float) else tuple(values)


def scattered_mask(grid: tuple[int, int], ratio: float, generator: np.random.RandomState) -> np.ndarray:
    """Draw a mask (rows, columns) of independent random patches (bytedance/ibot, "rand")."""
    num_patches = math.prod(grid)
    mask = np.arange(num_patches) >= num_patches - int(ratio * num_patches)
    generator.shuffle(mask)
    return mask.reshape(grid)


# Number of failed draws of a block after which a mask is left as it is.
ATTEMPTS = 10


def block_mask(
    grid: tuple[int, int], ratio: float, generator: random.Random, aspect_ratio: tuple[float, float] = (0.3, 1 / 0.3)
) -> np.ndarray:
    """Draw a mask (rows, columns) of rectangles, until the ratio is reached or no further block fits.

    BEiT, arXiv 2106.08254, algorithm 1, as in bytedance/ibot, loader.py. A block is smaller than the grid along both
    axes; its area before rounding is at least (min(rows, columns) // 3)^2; it never exceeds the number of patches
    still to mask. The masked fraction is at most `ratio` and may be smaller.
    """
    mask = np.zeros(grid, dtype=bool)
    wanted = ratio * mask.size
    while (missing := wanted - mask.sum()) > 0:
        if not any(add_block(mask, missing, generator, aspect_ratio) for _ in range(ATTEMPTS)):
            break
    return mask


def add_block(mask: np.ndarray, most: float, generator: random.Random, aspect_ratio: tuple[float, float]) -> bool:
    """Mask a random rectangle in place and return True, if it fits and masks 1 to `most` visible patches."""
    rows, columns = mask.shape
    area = generator.uniform((min(rows, columns) // 3) ** 2, most)
    ratio = math.exp(generator.uniform(*map(math.log, aspect_ratio)))
    height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if height >= rows or width >= columns:
        return False
    top, left = generator.randint(0, rows - height), generator.randint(0, columns - width)
    block = mask[top : top + height, left : left + width]
    if not 0 < block.size - block.sum() <= most:
        return False
    block[...] = True
    return True


class AttentionMask(nn.Module):
    """Masks guided by the attention of a teacher's class token: AttMask, arXiv 2203.12719 (attmask.py).

    Args:
        strategy: `"high"` masks the most attended patches, `"low"` the least attended, `"hint"` the most attended
            except for some that are revealed.
        probability: probability that an image is masked at all.
        hint_fraction: revealed patches are drawn from this fraction of the patches, the most attended.
    """

    def __init__(
        self,
        strategy: Literal["high", "hint", "low"] = "high",
        probability: float = 0.5,
        hint_fraction: float = 0.1,
    ):
        super().__init__()
        if strategy not in ("high", "hint", "low"):
            raise ValueError(f"strategy must be 'high', 'hint' or 'low', got {strategy!r}")
        for name, value in {"probability": probability, "hint_fraction": hint_fraction}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        self.strategy = strategy
        self.probability = probability
        self.hint_fraction = hint_fraction

    @torch.no_grad()
    def forward(
        self,
        attention: Tensor,
        ratio: float,
        hint_ratio: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the masks of a batch.

        Args:
            attention: (batch, patches), of the class token in the teacher's last layer, averaged over heads.
            ratio: fraction of the patches that is masked, rounded down.
            hint_ratio: with "hint", the fraction of the `hint_fraction` most attended patches that is revealed,
                whether masked or not; None for `ratio`. The original draws it from the same range as the ratio.
            generator: random generator on the device of `attention`.

        Returns:
            (batch, patches), True where a patch is masked.
        """
        mask = self.by_attention(attention, ratio)
        mask &= self.gate(attention, generator)[:, None]
        if self.strategy == "hint":
            hints = self.draw_hints(attention, ratio if hint_ratio is None else hint_ratio, generator)
            mask.scatter_(1, hints, False)
        return mask

    def by_attention(self, attention: Tensor, ratio: float) -> Tensor:
        """Return masks (batch, patches) by attention alone, every image masked and no patch revealed."""
        chosen = attention.argsort(dim=1, descending=self.strategy != "low")[:, : int(attention.shape[1] * ratio)]
        return torch.zeros_like(attention, dtype=torch.bool).scatter_(1, chosen, True)

    def gate(self, attention: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw which images are masked: boolean (batch,)."""
        return torch.rand(len(attention), device=attention.device, generator=generator) <= self.probability

    def draw_hints(self, attention: Tensor, ratio: float, generator: torch.Generator | None = None) -> Tensor:
        """Draw the indices (batch, hints) of patches to reveal."""
        # The original draws a gate of probability 1 here; drawing it too keeps the random stream the same.
        torch.rand(len(attention), device=attention.device, generator=generator)
        count = int(self.hint_fraction * ratio * attention.shape[1])
        if not count:
            return attention.new_zeros((len(attention), 0), dtype=torch.long)
        most_attended = self.by_attention(attention, self.hint_fraction)
        return torch.multinomial(most_attended.float(), count, generator=generator)
