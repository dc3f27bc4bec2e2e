"""The decoding benchmark: its readers return the same frames, and rows are written and shown."""

import json

import numpy as np
import pytest

from benchmarks import decoding

KEYS = {"keyframes", "work", "ours_ms", "peers_ms", "ratio", "ratio_quartiles", "rounds", "frames_per_second"}


@pytest.fixture(autouse=True)
def short_videos(monkeypatch):
    monkeypatch.setattr(decoding, "LENGTH", 90)


def test_readers_return_the_same(tmp_path):
    decoding.walk(tmp_path / "clip.mp4", 12)
    indices = np.array([3, 7, 11, 80, 84])
    expected = decoding.whole(tmp_path / "clip.mp4", indices)
    for reader in decoding.READERS.values():
        np.testing.assert_array_equal(reader(tmp_path / "clip.mp4", indices), expected)


def test_rows_are_written_and_shown(tmp_path, capsys):
    json_file = tmp_path / "rows.json"
    decoding.main(["--keyframes", "12", "--work", "clip", "--seconds", "0", "--json", str(json_file)])
    (row,) = json.loads(json_file.read_text())
    assert row.keys() == KEYS
    assert (row["keyframes"], row["work"]) == (12, "clip")
    assert row["frames_per_second"] == pytest.approx(16e3 / row["ours_ms"])
    assert row["peers_ms"].keys() == {"transformers", "whole video"}
    assert "frames/s" in capsys.readouterr().out
