"""Runs on images of which several labels may be true, some of them known to the model."""

import json

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from hf_vits import CTranConfig, CTranForImageClassification
from hf_vits.models.c_tran.modeling_c_tran import CTranClassifierOutput
from hf_vits.training import train

from ..models.c_tran.forms import TINY
from ..support.paths import RECIPES
from ..support.training import losses

TRANSFORMER = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
RES_NET = {"embedding_size": 2, "depths": [1, 1], "feature_projection": True}
MODELS = {
    "c_tran": {"system": "c_tran", "variant": "voc", "config": {**TRANSFORMER, **RES_NET, "image_size": 16}},
    "vit": {"system": "vit", "variant": "ViT-Ti_16", "config": {**TRANSFORMER, "image_size": 16}},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of twelve images with two labels, of which one is unknown."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    rows = ["image,is_light,is_large,split"]
    for number in range(12):
        light = number % 2
        Image.fromarray(random.integers(128 * light, 128 + 128 * light, (16, 16), np.uint8)).save(
            folder / f"{number}.png"
        )
        rows.append(f"{number}.png,{light},{'' if number == 3 else number // 6},{'train' if number < 8 else 'test'}")
    (folder / "table.csv").write_text("\n".join(rows))
    return folder / "table.csv"


@pytest.mark.parametrize("name", MODELS)
def test_a_run_measures_each_label(tmp_path, table, name):
    columns = {"image": "image", "labels": "is_*"}
    recipe = {
        "task": "image-classification",
        "model": MODELS[name],
        "objective": {"loss": "masked", "evaluated_fraction": 0.5} if name == "c_tran" else {"loss": "binary"},
        "data": {"source": "csv", "path": str(table), "columns": columns, "validation_fraction": 0.0},
        "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.0},
        "train": {"length": "2 steps", "batch_size": 4, "log_every": "1 step"},
        "output": {"directory": str(tmp_path)},
    }
    measured = train(recipe)["test"]
    assert len(losses(tmp_path)) == 2
    assert 0 < measured["mAP"] <= 1
    assert set(json.loads((tmp_path / "config.json").read_text())["label2id"]) == {"is_light", "is_large"}


def test_recordings_of_several_labels_fine_tune_vatt(tmp_path):
    rows = {"train": ["dog;rain", "rain", "dog", "dog;rain"], "test": ["dog", "dog;rain"]}
    for split, cells in rows.items():
        for number in range(len(cells)):
            noise = np.random.default_rng(number).standard_normal(800).astype(np.float32) / 9
            soundfile.write(tmp_path / f"{split}{number}.wav", noise, 8000)
        lines = [f"{split}{number}.wav,{cell}" for number, cell in enumerate(cells)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,labels", *lines]))
    fields = {**TRANSFORMER, "patch_size": 40, "num_samples": 800}
    changes = [f"model.config.{name}={value}" for name, value in fields.items()]
    changes += [
        f"data.path={tmp_path}",
        "data.num_classes=2",
        "schedule.warmup=1 step",
        f"output.directory={tmp_path}/run",
    ]
    changes += ["train.length=2 steps", "train.batch_size=2", "train.workers=0", "train.log_every=1 step"]
    measured = train(RECIPES / "vatt_base_audioset.yaml", changes)
    assert len(losses(tmp_path / "run")) == 2
    assert 0 < measured["test"]["mAP"] <= 1
    labels = json.loads((tmp_path / "run" / "config.json").read_text())["label2id"]
    assert labels == {"dog": 0, "rain": 1}


def test_the_auxiliary_head_is_trained_with_its_weight():
    logits = torch.zeros(2, 3)
    outputs = CTranClassifierOutput(logits=logits, auxiliary_logits=logits)
    model = CTranForImageClassification(CTranConfig(**TINY))
    assert model.further_logits(outputs) == []
    model.config.auxiliary_loss_weight = 0.4
    assert model.further_logits(outputs) == [(logits, 0.4)]
    assert model.further_logits(CTranClassifierOutput(logits=logits)) == []
