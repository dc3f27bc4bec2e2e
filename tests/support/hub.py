"""What the tests of `hf_vits.hub` share: tiny models of every architecture, and a Python without hf_vits."""

import hashlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import tests.models
import tests.pretraining
from hf_vits import conversion
from hf_vits.auto import ARCHITECTURES, PRETRAINING
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.testing.hub import LoopbackHub
from tests.support.forms import gather

# {folder: fields of the tiny form} of what classifies images, audio or clips, and of self-supervised methods.
TINY = {
    name: fields
    for name, fields in gather(tests.models, "TINY").items()
    if not any(row.folder == name and "AutoModelForAudioClassification" in row.models for row in ARCHITECTURES)
}
AUDIO = {name: fields for name, fields in gather(tests.models, "TINY").items() if name not in TINY}
VIDEO = gather(tests.models, "TINY_CLIPS")
MODALITIES = gather(tests.models, "TINY_MODALITIES")
METHODS = gather(tests.pretraining, "TINY")
# Stands before a script's own lines and makes hf_vits as absent as if it had never been installed.
WITHOUT_HF_VITS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_vits":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def model_class(name: str, auto_class: str) -> type:
    rows = [row for row in (*ARCHITECTURES, *PRETRAINING) if auto_class in row.models]
    row = next(row for row in rows if name in (row.name, row.folder))
    return getattr(importlib.import_module(row.model_module()), row.models[auto_class])


def model_type(name: str) -> str:
    """The `model_type` of the encoder in a folder of architectures, which may have another name than the folder."""
    return model_class(name, "AutoModel").config_class.model_type


def variant_for(name: str, auto_class: str) -> str:
    """The first published variant that is of the class that `auto_class` loads, or the first of all."""
    known, module = conversion.variants(name), conversion.system(name)
    class_name = model_class(name, auto_class).__name__
    found = (variant for variant, fields in known.items() if module.model_class(fields).__name__ == class_name)
    return next(found, next(iter(known)))


def tiny_model(name: str, auto_class: str = "AutoModelForImageClassification", **fields):
    """A small model with random weights everywhere, also where the original starts at zero."""
    cls = model_class(name, auto_class)
    torch.manual_seed(0)
    labels = {"id2label": {0: "cat", 1: "dog", 2: "eel"}, "label2id": {"cat": 0, "dog": 1, "eel": 2}}
    sizes = VIDEO if "Video" in auto_class else TINY | AUDIO | MODALITIES | METHODS
    model = cls(cls.config_class(**sizes[name] | labels | fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def tiny_processor() -> VitsImageProcessor:
    return VitsImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)


def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def run_without_hf_vits(script: str, hub: LoopbackHub, folder: Path, token: str | None = None) -> str:
    """What `script` prints, in a fresh interpreter that cannot import hf_vits and talks to `hub`."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_HF_VITS + script],
        env={**os.environ, **hub.environment(folder / "home", token)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_cache(home: Path) -> int:
    """How many files the client's cache below `home` holds; fails if one of them is not what its name says."""
    blobs = [path for path in home.rglob("blobs/*") if path.is_file()]
    for blob in blobs:
        data = blob.read_bytes()
        git_id = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        assert blob.name in (hashlib.sha256(data).hexdigest(), git_id), f"{blob.name}: {len(data)} bytes"
    return len(blobs)
