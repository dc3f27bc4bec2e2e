"""The benchmark of early exits: its rows are consistent, and printed."""

import json

import pytest

from benchmarks import early_exits
from tests.models.dvt.forms import TINY


def test_a_row_compares_early_exits_with_all_networks():
    row = early_exits.measure(TINY | {"num_labels": 5}, batch=8, seconds=0)
    assert row["exits"] == [4, 2, 2]
    assert row["predicted_ms"] < row["all_ms"]
    assert row["to_predicted"] == pytest.approx(row["ratio"] * row["all_ms"] / row["predicted_ms"])


def test_rows_are_written_and_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(early_exits, "variants", lambda system: {"tiny": TINY})
    early_exits.main(["--batch", "4", "--seconds", "0", "--threads", "1", "--json", str(tmp_path / "rows.json")])
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["variant"], row["batch"], row["exits"]) == ("tiny", 4, [2, 1, 1])
    assert "to predicted" in capsys.readouterr().out
