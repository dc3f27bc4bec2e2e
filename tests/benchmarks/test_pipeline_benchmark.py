"""The pipeline benchmark: rows are written and shown, and timm's failures are counted."""

import json

import pytest

from benchmarks import pipeline

KEYS = {"work", "ours_ms", "peers_ms", "ratio", "ratio_quartiles", "rounds", "images_per_second", "timm_failures"}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(pipeline, "BATCH_SIZE", 2)


def test_rows_are_written_and_shown(tmp_path, capsys):
    json_file = tmp_path / "rows.json"
    pipeline.main(["--seconds", "0", "--json", str(json_file)])
    rows = json.loads(json_file.read_text())
    assert [row["work"] for row in rows] == ["training", "evaluation"]
    for row in rows:
        assert row.keys() == KEYS
        assert row["ratio"] == row["ours_ms"] / row["peers_ms"]["timm"]
        assert row["images_per_second"] == pytest.approx(2e3 / row["ours_ms"])
    assert "images/s" in capsys.readouterr().out


def test_failures_of_timm_are_counted(monkeypatch):
    timm = pipeline.Timm(pipeline.JpegImages(), "training")

    def fail(image):
        raise TypeError("posterize")

    timm.transform = fail
    timm([0, 1, 2])
    assert timm.failures == 3
