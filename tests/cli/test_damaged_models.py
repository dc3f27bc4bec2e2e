"""Folders of saved models with damaged files: the error names the file."""

import re
import shutil

import numpy as np
import pytest

from hf_vits import CctConfig, CctForImageClassification
from hf_vits.cli.models import load_model, load_processor
from hf_vits.evaluation.features import load_encoder
from hf_vits.processing.image import VitsImageProcessor

TINY = {"image_size": 16, "hidden_size": 16, "intermediate_size": 16, "conv_hidden_size": 8, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return {whether it is in shards: folder of a saved model}."""
    folders = {False: tmp_path_factory.mktemp("whole"), True: tmp_path_factory.mktemp("sharded")}
    model = CctForImageClassification(CctConfig(**TINY, num_attention_heads=2))
    for is_sharded, folder in folders.items():
        model.save_pretrained(folder, max_shard_size="4KB" if is_sharded else "1GB")
        VitsImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folders


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[]"),
        ("config.json", b'{"a":' * 5000),
        ("model.safetensors", b""),
        ("model.safetensors", b"not weights at all"),
        ("model.safetensors.index.json", b"{"),
        ("model.safetensors.index.json", b"\xff"),
        ("model-00002-of-00004.safetensors", b"short"),
        ("model-00002-of-00004.safetensors", None),
    ],
)
@pytest.mark.parametrize("load", [load_model, load_encoder, CctForImageClassification.from_pretrained])
def test_a_damaged_file_of_a_model_is_named(saved, tmp_path, load, name, content):
    folder = shutil.copytree(saved["-of-" in name or "index" in name], tmp_path / "model")
    assert (folder / name).is_file()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises((OSError, ValueError), match=re.escape(name)):
        load(str(folder))


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"a":' * 5000])
def test_a_damaged_file_of_a_processor_is_named(saved, tmp_path, content):
    folder = shutil.copytree(saved[False], tmp_path / "model")
    (folder / "preprocessor_config.json").write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r"preprocessor_config\.json"):
        load_processor(str(folder))


def test_a_whole_folder_is_read(saved):
    for folder in saved.values():
        assert load_model(str(folder)).num_parameters() > 0
        pixels = load_processor(str(folder))(images=np.zeros((20, 20, 3), np.uint8), return_tensors="pt").pixel_values
        assert pixels.shape == (1, 3, 224, 224)
