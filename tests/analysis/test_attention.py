"""Measures of attention by heads whose behaviour is known, and the pictures of them."""

import pytest
import torch
from transformers import ViTConfig, ViTModel

from hf_vits.analysis import attention as attending
from hf_vits.analysis.taps import record

SIDE = 5


def head_of(rows: int, columns: int, to_class: float = 0.0) -> torch.Tensor:
    """A head (tokens, tokens) whose patches attend to the neighbour at an offset, clamped at the border."""
    attention = torch.zeros(1 + SIDE**2, 1 + SIDE**2)
    attention[0, 0] = 1
    for row in range(SIDE):
        for column in range(SIDE):
            target = min(max(row + rows, 0), SIDE - 1) * SIDE + min(max(column + columns, 0), SIDE - 1)
            attention[1 + row * SIDE + column, 1 + target] += 1 - to_class
            attention[1 + row * SIDE + column, 0] += to_class
    return attention


@pytest.fixture(scope="module")
def heads():
    """(images, layers, heads, tokens, tokens): right neighbour, itself, two down, uniform."""
    uniform = torch.full((26, 26), 1 / 26)
    return torch.stack([head_of(0, 1), head_of(0, 0), head_of(2, 0, 0.5), uniform])[None, None]


def test_offset_heads_are_found_with_their_offset(heads):
    found = attending.offset_heads(attending.aligned_attention(heads).mean(dim=0))
    assert [(head.head, head.offset) for head in found] == [(0, (0, 1)), (2, (2, 0))]
    assert found[0].mass == pytest.approx(1)


def test_distances_in_both_conventions(heads):
    pixels = attending.attention_distance(heads, "pixels", patch_size=16)[0, 0]
    unit = attending.attention_distance(heads)[0, 0]
    assert pixels[0] == pytest.approx(16 * 4 / 5)  # the last column attends to itself
    assert unit[0] == pytest.approx(0.25 * 4 / 5)
    assert pixels[1] == unit[1] == 0
    # Half of the attention goes to the class token, which only "pixels" leaves in the sum.
    assert pixels[2] == pytest.approx(unit[2].item() * 4 * 16 / 2)
    with pytest.raises(ValueError, match="convention must be"):
        attending.attention_distance(heads, "metres")


def test_a_recording_gives_what_its_tensors_give():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model = ViTModel(ViTConfig(**sizes, image_size=(24, 40), patch_size=8))
    seen = record(model, torch.randn(2, 3, 24, 40), "attentions")
    distances = attending.attention_distance(seen)
    assert distances.shape == (2, 2, 2)
    stacked = torch.stack(seen.attentions, dim=1)
    torch.testing.assert_close(distances, attending.attention_distance(stacked, grid=(3, 5)))
    torch.testing.assert_close(attending.rollout(seen)[-1].sum(dim=-1), torch.ones(2, 16))
    assert attending.aligned_attention(seen).shape == (2, 2, 2, 5, 9)
    with pytest.raises(ValueError, match="4 x 4 patches"):
        attending.attention_distance(stacked, grid=(4, 4))


def test_pictures_have_a_map_per_head_and_a_point_per_head(heads):
    aligned = attending.aligned_attention(heads).mean(dim=0)
    figure = attending.plot_heads(aligned, attending.offset_heads(aligned))
    assert len(figure.axes) == 4
    figure = attending.plot_attention_distance(attending.attention_distance(heads).mean(dim=0))
    assert len(figure.axes[0].lines[0].get_ydata()) == 4
