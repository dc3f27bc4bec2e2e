"""Models as ONNX: what stands beside the graph, which sizes it takes, and graphs that are wrong."""

import json

import onnxruntime
import pytest
import torch
from transformers import AutoConfig, AutoImageProcessor

from hf_vits import export_onnx
from hf_vits.cli import main
from hf_vits.deployment import onnx as deployed

from ..support.hub import tiny_model, tiny_processor


def run(path, batch: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path / "model.onnx", providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"pixel_values": batch.numpy()})[0])


@torch.no_grad()
def test_command_writes_a_graph_for_any_batch_and_size(tmp_path, capsys):
    model = tiny_model("deit", position_interpolation="bicubic")
    model.save_pretrained(tmp_path / "saved")
    tiny_processor().save_pretrained(tmp_path / "saved")
    assert main(["export", str(tmp_path / "saved"), str(tmp_path / "out"), "--onnx", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["outputs"] == ["logits", "cls_logits", "distillation_logits"]
    assert (result["sizes"], result["int8_difference"]) == ("any", None)
    assert result["difference"] < 1e-5
    assert {"config.json", "model.onnx", "preprocessor_config.json"} <= result["files"].keys()
    for size in ((2, 3, 32, 32), (5, 3, 48, 40), (1, 3, 96, 64)):
        batch = torch.rand(size)
        torch.testing.assert_close(run(tmp_path / "out", batch), model(batch).logits, atol=1e-5, rtol=1e-5)
    assert AutoConfig.from_pretrained(tmp_path / "out").id2label == model.config.id2label
    assert AutoImageProcessor.from_pretrained(tmp_path / "out").size == tiny_processor().size
    assert main(["export", str(tmp_path / "saved"), str(tmp_path / "out"), "--onnx"]) == 2
    assert "--overwrite" in capsys.readouterr().err


@torch.no_grad()
def test_eight_bit_graph_of_one_size(tmp_path, monkeypatch):
    monkeypatch.setattr(deployed, "takes", lambda meta, example: False)  # as where position biases are for one size
    model = tiny_model("cct")
    result = export_onnx(model, tmp_path / "out", int8=True)
    assert result["sizes"] == "32x32"
    assert result["difference"] < 1e-5 < result["int8_difference"] < 0.02
    batch = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(run(tmp_path / "out", batch), model(batch).logits, atol=0.02, rtol=0.02)
    assert model.config._attn_implementation == "sdpa"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.onnx"]


def test_wrong_graph_is_not_written(tmp_path, monkeypatch):
    model = tiny_model("cct")
    export = deployed._export

    def of_another_model(own, example, path, is_free):
        return export(tiny_model("cct", hidden_act="relu"), example, path, is_free)

    monkeypatch.setattr(deployed, "_export", of_another_model)
    monkeypatch.setattr(deployed, "free_sizes", lambda model, example: [])
    with pytest.raises(RuntimeError, match=r"logits of CctFor.* differs from PyTorch's by .*check=False"):
        export_onnx(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_exported_are_refused(tmp_path):
    model = tiny_model("cct")
    with pytest.raises(ValueError, match=r"call model\.eval\(\) first"):
        export_onnx(model.train(), tmp_path / "out")
    with pytest.raises(ValueError, match=r"got torch\.bfloat16: call model\.float\(\)"):
        export_onnx(model.eval().to(torch.bfloat16), tmp_path / "out")
    assert not list(tmp_path.iterdir())
