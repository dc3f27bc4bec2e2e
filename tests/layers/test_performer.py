"""Performer attention: what it computes, what it estimates, what it costs, and its random features."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import commands
from benchmarks import performer as benchmark
from benchmarks.audio_peers import SoftmaxAttention
from hf_vits.layers import performer
from hf_vits.layers.performer import (
    FEATURE_EPS,
    PerformerAttention,
    ScaleNorm,
    random_projection,
    redraw_projections,
)


def states(*shape: int, scale: float = 1.0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(math.prod(shape))
    return (scale * torch.randn(shape, generator=generator, dtype=dtype)).requires_grad_()


def by_definition(layer: PerformerAttention, hidden_states, context) -> torch.Tensor:
    """Every query's weight on every key, as performer-pytorch defines the features, with no sum rearranged."""
    projection = layer.random_features.projection
    num_features, head_dim = projection.shape

    def heads(states):
        return states.unflatten(-1, (-1, head_dim)).transpose(1, 2)

    def features(states, axes):
        states = states * head_dim**-0.25
        exponents = torch.einsum("bhnd,md->bhnm", states, projection)
        largest = exponents.amax(dim=axes, keepdim=True).detach()
        exponents = exponents - states.square().sum(-1, keepdim=True) / 2 - largest
        return (exponents.exp() + FEATURE_EPS) / math.sqrt(num_features)

    query = heads(layer.query(hidden_states))
    key, value = map(heads, layer.key_value(context).chunk(2, dim=-1))
    weights = features(query, (-1,)) @ features(key, (-1, -2)).transpose(-1, -2)
    attended = weights / weights.sum(-1, keepdim=True) @ value
    return layer.projection(attended.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("length", [3, 256])
@pytest.mark.parametrize("scale", [0.3, 10.0])
def test_computes_its_definition_and_the_gradients_of_it(scale, length, monkeypatch):
    monkeypatch.setattr(performer, "MIN_CHUNK_LENGTH", length)
    monkeypatch.setattr(performer, "MAX_CHUNK_FEATURES_ON_CPU", 1)
    layer = PerformerAttention(hidden_size=6, num_heads=3, head_dim=8, num_features=20, bias=True).double()
    inputs = states(2, 7, 6, scale=scale), states(2, 5, 6, scale=scale)
    assert len(layer.chunks(inputs[0])) == math.ceil(7 / length)
    found, expected = layer(*inputs), by_definition(layer, *inputs)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(layer(*inputs), expected, atol=1e-12, rtol=1e-10)
    learning, cotangent = [*inputs, *layer.parameters()], states(2, 7, 6).detach()
    gradients = (torch.autograd.grad(result, learning, cotangent) for result in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)


def test_memory_does_not_grow_with_the_features():
    """While training, what is kept for the gradients of a long input is a fraction of its features."""
    layer = PerformerAttention(hidden_size=4, num_heads=2, head_dim=8, num_features=100)
    hidden_states = torch.randn(1, 20_000, 4)
    kept = {}  # {storage: bytes}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(hidden_states, hidden_states).sum().backward()
    assert sum(kept.values()) < 0.2 * hidden_states.shape[1] * 2 * 100 * hidden_states.element_size()


def test_more_random_features_come_closer_to_softmax_attention():
    hidden_states, context = states(1, 30, 8, scale=0.8), states(1, 40, 8, scale=0.8)
    errors = {}
    for num_features in (8, 64, 512):
        torch.manual_seed(0)
        layer = PerformerAttention(8, 2, 8, num_features).double()
        softmax = SoftmaxAttention(layer)(hidden_states, context)
        squares = []
        for seed in range(30):
            redraw_projections(layer, seed)
            squares.append((layer(hidden_states, context) - softmax).square().mean())
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


class Doubled(nn.Linear):
    """A linear layer that does more than its weight says, as one with an adapter."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(hidden_states)


@pytest.mark.parametrize("bias", [False, True])
def test_narrow_tokens_are_attended_to_alike_whether_or_not_maps_are_merged(bias):
    merged = PerformerAttention(3, 2, 8, 20, bias=bias).double()
    separate = PerformerAttention(3, 2, 8, 20, bias=bias).double()
    separate.query = Doubled(3, 16, bias=bias).double()
    separate.load_state_dict(merged.state_dict())
    with torch.no_grad():
        for parameter in merged.query.parameters():
            parameter *= 2
    inputs = states(2, 7, 3), states(2, 5, 3)
    with FlopCounterMode(display=False) as few:
        found = merged(*inputs)
    with FlopCounterMode(display=False) as many:
        expected = separate(*inputs)
    assert few.get_total_flops() < many.get_total_flops()
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)
    found.square().sum().backward()
    gradients = [states.grad.clone() for states in inputs]
    for states_in in inputs:
        states_in.grad = None
    expected.square().sum().backward()
    for ours, theirs in zip(gradients, (states.grad for states in inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-9)
    for (name, ours), theirs in zip(merged.named_parameters(), separate.parameters(), strict=True):
        factor = 2 if name.startswith("query") else 1
        torch.testing.assert_close(factor * ours.grad, theirs.grad, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("length", [1000, 70_000])
def test_short_and_long_inputs_stay_finite_in_half_precision(dtype, length):
    """Sums over more keys than the largest number of half precision, and divisors too small for it."""
    layer = PerformerAttention(16, 1, 16, 40).to(dtype)
    hidden_states, context = (states(1, count, 16, scale=2.0, dtype=dtype) for count in (64, length))
    attended = layer(hidden_states, context)
    attended.mean().backward()
    assert attended.isfinite().all()
    assert hidden_states.grad.isfinite().all()
    assert context.grad.isfinite().all()


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


def test_scale_norm_has_one_factor_and_does_not_divide_by_zero():
    norm = ScaleNorm()
    norm.scale.data.fill_(3.0)
    tokens = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-7, 0.0]])
    torch.testing.assert_close(norm(tokens), torch.tensor([[1.8, 2.4], [0.0, 0.0], [0.03, 0.0]]))


def test_the_benchmark_compares_equal_layers_and_shows_what_grows(tmp_path, monkeypatch):
    ours, softmax = (benchmark.make_layer(name).state_dict() for name in benchmark.CONTESTANTS)
    assert softmax.keys() == ours.keys() - {"random_features.projection"}
    assert all(torch.equal(ours[key], value) for key, value in softmax.items())
    monkeypatch.setattr(benchmark, "QUERIES_PER_SECOND", 64)
    monkeypatch.setattr(benchmark, "KEYS_PER_SECOND", 32)
    for name, mode in itertools.product(benchmark.CONTESTANTS, benchmark.MODES):
        benchmark.make_step(name, 2, mode)()
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
    commands.plot_time_and_memory(rows, tmp_path / "rows.png", benchmark.draw)
    assert (tmp_path / "rows.png").stat().st_size > 10_000
