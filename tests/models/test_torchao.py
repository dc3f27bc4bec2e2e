"""Eight-bit weights by torchao on every classifier.

transformers imports torchao wherever it is installed, which makes every process start later. So `make env` installs it
in a folder of its own, and one process that looks there quantises all models.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.paths import ROOT
from .test_contracts import FORMS

FOLDER = Path(sys.prefix) / "torchao"
QUANTISE_ALL = """
import json
import tempfile
import torch
from torch import nn
from hf_vits import quantize
from tests.models.test_contracts import FORMS, classifier, inputs

for form in FORMS:
    for precision in ("int8_weights", "int8"):
        model = classifier(form)
        batch = inputs(model)
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            right = model(batch).logits
            found = quantize(model, precision)(batch).logits
            reloaded = None
            if form in ("septr", "cct"):  # with and without a layer that torchao does not take
                model.save_pretrained(folder)
                loaded = type(model).from_pretrained(folder).eval()
                reloaded = (loaded(batch).logits - found).abs().max().item()
        difference = ((found - right).abs().max() / right.abs().max()).item()
        layers = [part for part in model.modules() if isinstance(part, nn.Linear) and part.in_features > 1]
        changed = sum(type(layer.weight) is not nn.Parameter for layer in layers)
        print(json.dumps([form, precision, len(layers), changed, difference, reloaded]))
"""


@pytest.fixture(scope="module")
def quantised() -> dict[tuple[str, str], tuple]:
    """{(form, precision): (linear layers, those with 8-bit weights, change of the logits, change by reloading)}.

    The first change is relative to the largest logit; the second is None where the model was not saved.
    """
    assert FOLDER.is_dir(), f"torchao is not in {FOLDER}: run `make env`"
    path = os.pathsep.join([str(ROOT), str(FOLDER)])
    result = subprocess.run(
        [sys.executable, "-c", QUANTISE_ALL],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    rows = (json.loads(line) for line in result.stdout.splitlines())
    return {(form, precision): tuple(figures) for form, precision, *figures in rows}


@pytest.mark.parametrize("precision", ["int8", "int8_weights"])
@pytest.mark.parametrize("form", FORMS)
def test_eight_bit_weights_of_torchao_change_logits_little(quantised, form, precision):
    layers, changed, difference, _ = quantised[form, precision]
    assert 0 < layers == changed
    assert 0 < difference < 0.05


@pytest.mark.parametrize("precision", ["int8", "int8_weights"])
@pytest.mark.parametrize("form", ["septr", "cct"])
def test_eight_bit_weights_are_saved_and_loaded(quantised, form, precision):
    assert quantised[form, precision][-1] == 0
