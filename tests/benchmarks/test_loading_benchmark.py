"""The loading benchmark: what it times loads the same weights, and a row is written."""

import torch
import yaml

from benchmarks import loading


def test_what_is_timed_loads_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setitem(loading.SIZES, "tiny", ("test_vit", TINY))
    loading.write_files(tmp_path, "tiny")
    for action in ("convert safetensors", "convert .pth"):
        ours = loading.task(f"{action} ours", tmp_path, "tiny")()
        assert ours.config.hidden_size == 64
        assert loading.task(f"{action} peer", tmp_path, "tiny")().missing_keys == []
    ours, theirs = (loading.task(f"from_pretrained {who}", tmp_path, "tiny")() for who in ("ours", "peer"))
    assert torch.equal(ours.classifier.weight, theirs.classifier.weight)
    measured = loading.measure("from_pretrained ours", tmp_path, "tiny")
    assert measured.keys() == {"wall", "cpu", "bytes"}
    assert measured["cpu"] > 0


def test_rows_are_ratios_of_medians(tmp_path, monkeypatch):
    seconds = {"ours": {"wall": 1.0, "cpu": 0.5, "bytes": 130}, "peer": {"wall": 2.0, "cpu": 2.0, "bytes": 200}}
    monkeypatch.setattr(loading, "in_new_process", lambda kind, folder, size: seconds[kind.split()[-1]])
    (tmp_path / "ours").mkdir()
    for name in (*loading.FILES.values(), "ours/model.safetensors"):
        (tmp_path / name).write_bytes(bytes(100))
    rows = loading.compare(tmp_path, "tiny", 3)
    assert [row["name"] for row in rows] == ["convert safetensors", "convert .pth", "from_pretrained"]
    assert (rows[0]["cpu"]["ratio"], rows[0]["wall"]["ratio"], rows[0]["memory"]) == (0.25, 0.5, 1.3)
    loading.write(tmp_path / "rows.yaml", rows, "tiny")
    assert yaml.safe_load((tmp_path / "rows.yaml").read_text())["rows"] == rows


TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
