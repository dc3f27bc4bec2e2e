"""Local paths stay out of what is pushed, wherever a configuration names them."""

import json

import pytest
from transformers import AutoConfig, ViTImageProcessor

from hf_vits.hub import push_to_hub
from hf_vits.hub.privacy import remove_paths
from hf_vits.pretraining.linear_probe.configuration_linear_probe import LinearProbeConfig
from hf_vits.pretraining.linear_probe.modeling_linear_probe import LinearProbeForImageClassification
from hf_vits.testing.hub import LoopbackHub

from ..support.hub import tiny_model

FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
)


@pytest.fixture
def hub(tmp_path):
    with LoopbackHub() as hub, hub.in_process(tmp_path / "home"):
        yield hub


def test_nested_configurations_are_pushed_without_paths(hub, tmp_path):
    """The model and the processor in memory keep what they know."""
    folder = tmp_path / "secret"
    tiny_model("vit").save_pretrained(folder)
    backbone = AutoConfig.from_pretrained(folder)
    teacher = {"model": {"_name_or_path": str(folder), "hidden_size": 16}, "weights": f"{folder}/model.pth"}
    model = LinearProbeForImageClassification(
        LinearProbeConfig(backbone_config=backbone, teacher=teacher, teachers=[teacher], folders=[str(folder)])
    )
    processor = ViTImageProcessor(statistics=f"{folder}/mean.npy", source={"_name_or_path": "user/name", "size": 3})
    model.save_pretrained(tmp_path / "saved")  # notes the class and dtype in the configuration
    before = model.config.to_dict(), processor.to_dict()
    assert str(folder) in json.dumps(before[0]["backbone_config"])
    push_to_hub(model, "user/probe", processor, token=hub.token)
    assert (model.config.to_dict(), processor.to_dict()) == before
    stored = {name: file.content for name, file in hub.repository("user/probe").head.files.items()}
    for name, content in stored.items():
        assert b"secret" not in content, name
        assert b"_name_or_path" not in content or not name.endswith(".json"), name
    config = json.loads(stored["config.json"])
    assert config["teacher"] == {"model": {"hidden_size": 16}}
    assert config["teachers"] == [{"model": {"hidden_size": 16}}]
    assert config["backbone_config"]["hidden_size"] == 16
    assert "folders" not in config
    assert json.loads(stored["preprocessor_config.json"])["source"] == {"size": 3}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("path", ["/home/somebody/run", "~/run", "./run", "../run", "file:///home/somebody/run"])
def test_settings_that_are_paths_are_removed(tmp_path, name, path):
    nested = {"size": 3, "vocab_file": path, "files": ["a", path], "deep": [{"_commit_hash": "0a", "keep": [1]}]}
    (tmp_path / name).write_text(json.dumps({"a": nested, "_name_or_path": "", "b": {"c": {"checkpoint": path}}}))
    remove_paths(tmp_path / name)
    expected = {"a": {"size": 3, "deep": [{"keep": [1]}]}, "b": {"c": {}}}
    assert json.loads((tmp_path / name).read_text()) == expected


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("config.json", {"id2label": {"0": "/m/09x0r", "1": "~"}, "label2id": {"/m/09x0r": 0, "~": 1}}),
        ("tokenizer_config.json", {"mask_token": "~", "extra_special_tokens": ["/s"]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"5": {"content": "/s", "lstrip": False}}}),
        ("tokenizer.json", {"model": {"vocab": {"_name_or_path": 3, "/": 4}, "merges": ["/ home"], "unk": "/s"}}),
        ("vocab.json", {"name_or_path": 1, "/home": 2}),
    ],
)
def test_names_that_look_like_paths_are_kept(tmp_path, name, data):
    text = json.dumps(data)
    (tmp_path / name).write_text(text)
    remove_paths(tmp_path / name)
    assert (tmp_path / name).read_text() == text
