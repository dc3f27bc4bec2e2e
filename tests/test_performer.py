"""Performer attention: what it computes, what it estimates, what it costs, and its random features."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import performer as benchmark
from hf_vits.layers.performer import (
    FEATURE_EPS,
    PerformerAttention,
    RandomFeatureAttention,
    ScaleNorm,
    random_projection,
    redraw_projections,
)


def states(*shape: int, scale: float = 1.0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(math.prod(shape))
    return (scale * torch.randn(shape, generator=generator, dtype=dtype)).requires_grad_()


def by_definition(layer: RandomFeatureAttention, query, key, value) -> torch.Tensor:
    """Every query's weight on every key, as performer-pytorch defines the features, with no sum rearranged."""
    num_features, head_dim = layer.projection.shape

    def features(states, axes):
        states = states * head_dim**-0.25
        exponents = torch.einsum("bhnd,md->bhnm", states, layer.projection)
        largest = exponents.amax(dim=axes, keepdim=True).detach()
        exponents = exponents - states.square().sum(-1, keepdim=True) / 2 - largest
        return (exponents.exp() + FEATURE_EPS) / math.sqrt(num_features)

    weights = features(query, (-1,)) @ features(key, (-1, -2)).transpose(-1, -2)
    return weights / weights.sum(-1, keepdim=True) @ value


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_computes_its_definition_and_the_gradients_of_it(scale):
    layer = RandomFeatureAttention(head_dim=8, num_features=20).double()
    inputs = states(2, 3, 7, 8, scale=scale), states(2, 3, 5, 8, scale=scale), states(2, 3, 5, 8)
    found, expected = layer(*inputs), by_definition(layer, *inputs)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)
    cotangent = states(2, 3, 7, 8).detach()
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)


def test_more_random_features_come_closer_to_softmax_attention():
    query, key, value = states(1, 2, 30, 8, scale=0.5), states(1, 2, 40, 8, scale=0.5), states(1, 2, 40, 8)
    softmax = nn.functional.scaled_dot_product_attention(query, key, value)
    errors = {}
    for num_features in (8, 64, 512):
        layer = RandomFeatureAttention(8, num_features).double()
        squares = []
        for seed in range(30):
            redraw_projections(layer, seed)
            squares.append((layer(query, key, value) - softmax).square().mean())
        errors[num_features] = (sum(squares) / len(squares)).sqrt().item()
    assert errors[8] > 1.7 * errors[64] > 1.7**2 * errors[512]
    assert errors[512] < 0.3 * softmax.std().item()


def test_cost_grows_with_the_length_and_not_with_its_square():
    layer = PerformerAttention(hidden_size=16, num_heads=2, head_dim=8, num_features=20)
    flops = []
    for length in (500, 1000, 2000):
        hidden_states = torch.randn(1, length, 16)
        with FlopCounterMode(display=False) as counter:
            layer(hidden_states, hidden_states[:, ::2])
        flops.append(counter.get_total_flops())
    assert flops == [flops[0], 2 * flops[0], 4 * flops[0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("length", [1000, 70_000])
def test_short_and_long_inputs_stay_finite_in_half_precision(dtype, length):
    """Sums over more keys than the largest number of half precision, and divisors too small for it."""
    layer = RandomFeatureAttention(16, 40).to(dtype)
    query, key, value = (states(1, 1, count, 16, dtype=dtype) for count in (64, length, length))
    attended = layer(query, key, value.detach().abs())
    attended.mean().backward()
    assert attended.isfinite().all()
    assert query.grad.isfinite().all()
    assert key.grad.isfinite().all()


def test_random_features_are_orthogonal_in_blocks_and_as_long_as_gaussian_vectors():
    projection = random_projection(110, 32, torch.Generator().manual_seed(0))
    assert projection.shape == (110, 32)
    lengths = projection.norm(dim=1)
    assert lengths.square().mean() == pytest.approx(32, rel=0.1)
    assert lengths.std() > 0.3
    for start in range(0, 110, 32):
        block = projection[start : start + 32]
        gram = block @ block.T
        torch.testing.assert_close(gram, gram.diag().diag(), atol=1e-4, rtol=0)


def test_a_seed_redraws_the_features_of_every_layer():
    def layers() -> nn.Module:
        return nn.ModuleList(PerformerAttention(8, 2, 4, 6) for _ in range(2))

    one, other = layers(), layers()
    redraw_projections(one, seed=1)
    redraw_projections(other, seed=1)
    drawn = [layer.random_features.projection.clone() for layer in one]
    assert all(torch.equal(layer.random_features.projection, mine) for layer, mine in zip(other, drawn, strict=True))
    assert not torch.equal(*drawn)
    redraw_projections(one, seed=2)
    assert not torch.equal(one[0].random_features.projection, drawn[0])
    assert "0.random_features.projection" in one.state_dict()


def test_scale_norm_has_one_gain_and_does_not_divide_by_zero():
    norm = ScaleNorm()
    norm.gain.data.fill_(3.0)
    tokens = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-7, 0.0]])
    torch.testing.assert_close(norm(tokens), torch.tensor([[1.8, 2.4], [0.0, 0.0], [0.03, 0.0]]))


def test_the_benchmark_compares_equal_layers_and_shows_what_grows(tmp_path, monkeypatch):
    ours, softmax = (benchmark.make_layer(name).state_dict() for name in benchmark.CONTESTANTS)
    assert softmax.keys() == ours.keys() - {"random_features.projection"}
    assert all(torch.equal(ours[key], value) for key, value in softmax.items())
    monkeypatch.setattr(benchmark, "QUERIES_PER_SECOND", 64)
    monkeypatch.setattr(benchmark, "KEYS_PER_SECOND", 32)
    for name, mode in itertools.product(benchmark.CONTESTANTS, benchmark.MODES):
        benchmark.make_layer_step(name, seconds=2, mode=mode)()
    rows = [
        {
            "mode": mode,
            "seconds": seconds,
            "ours_ms": 3.0 * seconds,
            "peers_ms": {"sdpa": 2.0 * seconds**2},
            "ratio": 1.5 / seconds,
            "ratio_quartiles": [1.4 / seconds, 1.6 / seconds],
            "rounds": 5,
            "ours_mib": 7.0 * seconds,
            "peers_mib": {"sdpa": 5.0 * seconds},
        }
        for mode in benchmark.MODES
        for seconds in benchmark.LENGTHS
    ]
    table = benchmark.table(rows)
    per_second = [list(column.cells) for column in table.columns if column.header == "ours ms/s"]
    assert per_second == [["3.0"] * len(rows)]
    benchmark.plot(rows, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").stat().st_size > 10_000
