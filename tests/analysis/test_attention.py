"""Attention measured on heads that are known."""

import pytest
import torch

from hf_vits.analysis import attention as heads

SIDE = 5


def looking(down: int, right: int) -> torch.Tensor:
    """A head whose patches look at the neighbour at an offset, or at themselves where there is none."""
    attention = torch.zeros(1 + SIDE**2, 1 + SIDE**2)
    attention[0, 0] = 1
    for row in range(SIDE):
        for column in range(SIDE):
            inside = 0 <= row + down < SIDE and 0 <= column + right < SIDE
            key = (row + down) * SIDE + column + right if inside else row * SIDE + column
            attention[1 + row * SIDE + column, 1 + key] = 1
    return attention


def test_offset_heads_are_found():
    uniform = torch.full_like(looking(0, 0), 1 / (1 + SIDE**2))
    to_class = torch.zeros_like(uniform)
    to_class[:, 0] = 1
    maps = heads.aligned_attention(torch.stack([looking(0, 1), looking(-1, 0), looking(0, 0), uniform, to_class]))
    assert heads.offset_heads(maps).tolist() == [True, True, False, False, False]
    offsets = heads.attention_offsets(maps)
    assert offsets.x[0] > 0.1
    assert offsets.y[1] < -0.1
    assert offsets.distance[2:].abs().max() < 1e-6


def test_distance_in_both_conventions():
    right = looking(0, 1)
    steps = (SIDE - 1) / SIDE  # of the last column none goes right
    assert heads.attention_distance(right) == pytest.approx(steps / (SIDE - 1))
    assert heads.attention_distance(right, convention="pixel", patch_size=8) == pytest.approx(8 * steps)
    half = right / 2
    half[:, 0] += 0.5
    assert heads.attention_distance(half) == pytest.approx(steps / (SIDE - 1))
    assert heads.attention_distance(half, convention="pixel", patch_size=8) == pytest.approx(4 * steps)


def test_grids_that_are_no_square_must_be_given():
    attention = torch.rand(7, 7)
    with pytest.raises(ValueError, match=r"does not fit a grid of 2 x 2 patches: give grid"):
        heads.attention_distance(attention)
    assert heads.attention_distance(attention, grid=(2, 3)).isfinite()
    assert heads.aligned_attention(attention, grid=(2, 3)).shape == (3, 5)


def test_attention_on_tokens_sums_to_one():
    attention = torch.rand(2, 3, 10, 10).softmax(dim=-1)
    for queries in ("all", "patches", "patches_only", "class"):
        on_tokens = heads.attention_on_tokens(attention, queries)
        torch.testing.assert_close(on_tokens.sum(dim=-1), torch.ones(2, 3))
    assert heads.attention_on_tokens(attention, "patches_only")[..., 0].abs().max() == 0
    with pytest.raises(ValueError, match="queries must be"):
        heads.attention_on_tokens(attention, "centre")


def test_rollout_of_uniform_attention_stays_a_distribution():
    rolled = heads.rollout(torch.rand(4, 2, 3, 9, 9).softmax(dim=-1))
    assert rolled.shape == (4, 2, 9, 9)
    torch.testing.assert_close(rolled.sum(dim=-1), torch.ones(4, 2, 9))


def test_saliency_masks_hold_the_mass():
    attention = torch.zeros(1, 10, 10)
    attention[0, 0, 1:] = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1, 0, 0, 0, 0])
    mask = heads.saliency_masks(attention, mass=0.6)
    assert mask[0].flatten().tolist() == [True, True] + [False] * 7
    region = torch.zeros(3, 3)
    region[0, 0] = 1
    assert heads.mask_overlap(mask, region).tolist() == [0.5]
