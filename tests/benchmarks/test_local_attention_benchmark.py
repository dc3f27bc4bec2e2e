"""The local attention benchmark: its layers compute the same, and rows are written, shown and drawn."""

import json

import pytest
import torch

from benchmarks import local_attention
from hf_vits.models.qna.attention_qna import ATTENTION_SCALES

KEYS = {"mode", "map", "kernel", "ours_ms", "peers_ms", "ratio", "ratio_quartiles", "rounds", "ours_mib", "peers_mib"}


@pytest.mark.parametrize("scale", ATTENTION_SCALES)
@pytest.mark.parametrize(
    ("kernel_size", "options"),
    [
        (3, {}),
        (7, {"stride": 2, "num_queries": 1}),
        (4, {"stride": 3, "padding": 3, "num_queries": 3}),
        ((3, 5), {"padding": (0, 2), "normalize_queries": False, "bias": True, "scale_position_bias": True}),
        (1, {}),
    ],
)
def test_contestants_compute_the_same(kernel_size, options, scale):
    layers = {
        name: local_attention.make_layer(name, kernel_size, attention_scale=scale, **options).double()
        for name in local_attention.CONTESTANTS
    }
    generator = torch.Generator().manual_seed(0)
    hidden_states = torch.randn(2, 9, 6, local_attention.CHANNELS, dtype=torch.float64, generator=generator)
    results, gradients = {}, {}
    for name, layer in layers.items():
        results[name] = layer(hidden_states)
        gradients[name] = torch.autograd.grad(results[name].square().sum(), list(layer.parameters()))
    torch.testing.assert_close(results["ours"], results["unfold"], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(gradients["ours"], gradients["unfold"], atol=1e-10, rtol=1e-10)


def test_rows_are_written_shown_and_drawn(tmp_path, capsys):
    json_file, picture = tmp_path / "rows.json", tmp_path / "rows.png"
    chosen = ["--mode", "training", "--map", "8", "--kernel", "3", "--kernel", "5", "--seconds", "0", "--threads", "1"]
    local_attention.main([*chosen, "--json", str(json_file), "--plot", str(picture)])
    rows = json.loads(json_file.read_text())
    assert [(row["mode"], row["map"], row["kernel"]) for row in rows] == [
        ("training", 8, 3),
        ("training", 8, 5),
    ]
    for row in rows:
        assert row.keys() == KEYS
        assert row["peers_ms"].keys() == row["peers_mib"].keys() == {"unfold"}
        assert row["ratio"] == pytest.approx(row["ours_ms"] / row["peers_ms"]["unfold"])
    assert picture.stat().st_size > 10_000
    assert "unfold MiB" in capsys.readouterr().out
