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
import torch
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig, quantize_
from tests.models.test_contracts import FORMS, classifier, inputs

def is_quantised(module, name):
    return isinstance(module, nn.Linear) and module.in_features > 1  # torchao 0.18 fails on a single input

for form in FORMS:
    model = classifier(form)
    with torch.no_grad():
        right = model(inputs(model)).logits
        quantize_(model, Int8WeightOnlyConfig(), filter_fn=is_quantised)
        difference = (model(inputs(model)).logits - right).abs().max() / right.abs().max()
    layers = [module for name, module in model.named_modules() if is_quantised(module, name)]
    changed = sum(type(layer.weight) is not nn.Parameter for layer in layers)
    print(json.dumps([form, len(layers), changed, difference.item()]))
"""


@pytest.fixture(scope="module")
def quantised() -> dict[str, tuple[int, int, float]]:
    """{form: (linear layers, those with 8-bit weights, change of the logits relative to the largest)}."""
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
    return {form: tuple(figures) for form, *figures in rows}


@pytest.mark.parametrize("form", FORMS)
def test_eight_bit_weights_of_torchao_change_logits_little(quantised, form):
    layers, changed, difference = quantised[form]
    assert 0 < layers == changed
    assert 0 < difference < 0.05
